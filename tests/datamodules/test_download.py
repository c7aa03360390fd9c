"""Downloads against a server of our own on this machine."""

import errno
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from datamodules.download import Patience, RemoteFile, fetch, open_verified, read_verified
from harness.errors import UserError

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
AT_ONCE = Patience(attempts=4, backoff=0.0)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; what it does wrong, and for how many requests, is set by the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = True
        self.status = iter(())  # answers of the first requests, before it behaves
        self.cuts = iter(())  # bytes after which the first answers break off
        self.etag = '"one"'
        self.content = CONTENT
        self.redirect = ""
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            self.end_headers()
            return
        status = next(self.server.status, 200)
        if status != 200:
            self.send_error(status)
            return
        start = 0
        wanted = self.headers.get("Range")
        if (
            wanted
            and self.server.ranges
            and self.headers.get("If-Range", self.server.etag) == self.server.etag
        ):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        body = self.server.content[start:]
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(body[: next(self.server.cuts, len(body))])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "data"), str(tmp_path / "cache")


def get(url: str, folders: tuple[str, str], sha256: str = SHA256, patience: Patience = AT_ONCE) -> Path:
    file = RemoteFile("set/raw/file.bin", url, (sha256,))
    return fetch("toy", [file], *folders, patience=patience, allow_loopback_http=True)[0]


def left_behind(folders: tuple[str, str]) -> set[str]:
    found = {path.name for base in folders for path in Path(base).rglob("*") if path.is_file()}
    return found - {".download.lock"}


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_missing_file_is_downloaded_under_the_data_folder(server: Server, folders: tuple[str, str]) -> None:
    path = get(server.url, folders)
    assert path == Path(folders[0]) / "set/raw/file.bin"
    assert path.read_bytes() == CONTENT
    assert left_behind(folders) == {"file.bin"}


def test_present_file_is_not_asked_for_again(server: Server, folders: tuple[str, str]) -> None:
    get(server.url, folders)
    get(server.url, folders)
    assert len(server.seen) == 1


def test_file_in_the_cache_is_found_too(server: Server, folders: tuple[str, str]) -> None:
    path = Path(folders[1]) / "set/raw/file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert get(server.url, folders) == path
    assert not server.seen


def test_altered_file_is_named_and_left_as_it_is(server: Server, folders: tuple[str, str]) -> None:
    path = Path(folders[0]) / "set/raw/file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    found = hashlib.sha256(CONTENT[:-1]).hexdigest()
    with pytest.raises(UserError) as caught:
        get(server.url, folders)
    for word in (str(path), SHA256, found, "Delete it"):
        assert word in str(caught.value)
    assert path.read_bytes() == CONTENT[:-1]
    assert not server.seen


def test_other_content_from_the_server_is_discarded(server: Server, folders: tuple[str, str]) -> None:
    with pytest.raises(UserError, match="something else than the published file"):
        get(server.url, folders, sha256="0" * 64)
    assert not left_behind(folders)


def test_broken_connection_is_continued_where_it_ended(server: Server, folders: tuple[str, str]) -> None:
    server.cuts = iter([300_000])
    assert get(server.url, folders).read_bytes() == CONTENT
    assert server.seen[1]["Range"] == "bytes=300000-"
    assert server.seen[1]["If-Range"] == '"one"'


def test_server_without_ranges_sends_the_whole_file_again(server: Server, folders: tuple[str, str]) -> None:
    server.ranges = False
    server.cuts = iter([300_000])
    assert get(server.url, folders).read_bytes() == CONTENT


def test_file_that_changed_between_attempts_is_fetched_from_its_start(
    server: Server, folders: tuple[str, str]
) -> None:
    server.cuts = iter([300_000])
    file = Path(folders[0]) / "set/raw/file.bin.part"
    # The first answer carries the tag of an older version; a new one is published before the second.
    server.etag = '"old"'
    original = Handler.do_GET

    def publish_after_first(handler: Handler) -> None:
        original(handler)
        handler.server.etag = '"new"'

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "do_GET", publish_after_first)
        assert get(server.url, folders).read_bytes() == CONTENT
    assert server.seen[1]["If-Range"] == '"old"'
    assert not file.exists()


def test_leftover_of_an_earlier_run_is_continued(server: Server, folders: tuple[str, str]) -> None:
    server.cuts = iter([400_000])
    with pytest.raises(UserError, match="ended after 400000 of 1024000 bytes"):
        get(server.url, folders, patience=Patience(attempts=1))
    assert left_behind(folders) == {"file.bin.part"}
    assert get(server.url, folders).read_bytes() == CONTENT
    assert server.seen[1]["Range"] == "bytes=400000-"
    assert left_behind(folders) == {"file.bin"}


@pytest.mark.parametrize("leftover", [b"something else", CONTENT + b"too long"])
def test_corrupt_leftover_is_discarded(server: Server, folders: tuple[str, str], leftover: bytes) -> None:
    part = Path(folders[0]) / "set/raw/file.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(leftover)
    assert get(server.url, folders).read_bytes() == CONTENT
    assert left_behind(folders) == {"file.bin"}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_server_fault_is_retried(server: Server, folders: tuple[str, str], status: int) -> None:
    server.status = iter([status, status])
    assert get(server.url, folders).read_bytes() == CONTENT
    assert len(server.seen) == 3


def test_missing_page_is_not_retried(server: Server, folders: tuple[str, str]) -> None:
    server.status = iter([404] * 9)
    with pytest.raises(UserError, match="answered 404"):
        get(server.url, folders)
    assert len(server.seen) == 1
    assert not left_behind(folders)


def test_two_processes_at_once_download_once(server: Server, folders: tuple[str, str]) -> None:
    code = (
        "import sys; from datamodules.download import RemoteFile, fetch\n"
        "fetch('toy', [RemoteFile('set/raw/file.bin', sys.argv[1], (sys.argv[2],))], *sys.argv[3:],"
        " allow_loopback_http=True)"
    )
    command = [sys.executable, "-c", code, server.url, SHA256, *folders]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    jobs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    for job in jobs:
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 0, errors
    assert len(server.seen) == 1
    assert left_behind(folders) == {"file.bin"}


def test_threads_at_once_download_once(server: Server, folders: tuple[str, str]) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(get(server.url, folders))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert len(paths) == 4
    assert len(server.seen) == 1


def test_without_network_the_error_tells_the_ways_out_and_leaves_nothing(folders: tuple[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        get(f"http://127.0.0.1:{closed_port()}/file.bin", folders)
    message = str(caught.value)
    for word in ("data=toy", "paths.data=", "TENFOLD_DATA", "data=digits_graph", folders[0]):
        assert word in message
    assert "\n" not in message
    assert not any(Path(folder).exists() for folder in folders)


def test_unknown_host_is_asked_for_once(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_resolver(host: str, *args: Any, **keywords: Any) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_resolver)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(UserError, match=r"data\.example is not known"):
        get("https://data.example/file.bin", folders)
    assert asked == ["data.example"]


@pytest.mark.parametrize("url", ["http://data.example/file.bin", "file:///etc/hostname", "ftp://a.example/b"])
def test_anything_but_https_is_refused(folders: tuple[str, str], url: str) -> None:
    with pytest.raises(UserError, match="is not https"):
        get(url, folders)


def test_redirect_away_from_https_is_refused(server: Server, folders: tuple[str, str]) -> None:
    server.redirect = "http://data.example/file.bin"
    with pytest.raises(UserError, match="is not https"):
        get(server.url, folders)


def test_loopback_http_is_refused_unless_asked_for(server: Server, folders: tuple[str, str]) -> None:
    with pytest.raises(UserError, match="is not https"):
        fetch("toy", [RemoteFile("file.bin", server.url, (SHA256,))], *folders)


def test_read_only_data_folder_sends_downloads_to_the_cache(server: Server, tmp_path: Path) -> None:
    # A file in a folder's place cannot be written below, not even by a superuser.
    (tmp_path / "data").write_text("")
    path = get(server.url, (str(tmp_path / "data"), str(tmp_path / "cache")))
    assert path == tmp_path / "cache/set/raw/file.bin"


def test_two_unwritable_folders_are_a_users_mistake(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be stored in"):
        get(server.url, (str(tmp_path / "file/a"), str(tmp_path / "file/b")))
    assert not server.seen


def test_full_disk_is_a_users_mistake(
    server: Server, folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left"):
        get(server.url, folders)
    assert "file.bin" not in left_behind(folders)


def test_read_verified_returns_the_content_or_refuses_it(folders: tuple[str, str]) -> None:
    file = RemoteFile("file.bin", "https://data.example/file.bin", (SHA256,))
    with pytest.raises(UserError, match="prepare_data"):
        read_verified("toy", file, *folders)
    path = Path(folders[0]) / "file.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert read_verified("toy", file, *folders) == CONTENT
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(UserError, match="altered or truncated"):
        read_verified("toy", file, *folders)


def test_a_verified_file_is_open_at_its_beginning(folders: tuple[str, str]) -> None:
    file = RemoteFile("set/raw/file.bin", "https://example.org/file.bin", (SHA256,))
    with pytest.raises(UserError, match="prepare_data"), open_verified("toy", file, *folders):
        pass
    path = Path(folders[1]) / file.path
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    with open_verified("toy", file, *folders) as stream:
        assert stream.read() == CONTENT
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="not the published file"), open_verified("toy", file, *folders):
        pass


def test_any_of_several_known_hashes_is_accepted(folders: tuple[str, str]) -> None:
    path = Path(folders[0]) / "file.bin"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    file = RemoteFile("file.bin", "https://data.example/file.bin", ("0" * 64, SHA256))
    assert fetch("toy", [file], *folders) == [path]


def test_module_does_not_import_torch() -> None:
    code = "import sys, datamodules.download; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
