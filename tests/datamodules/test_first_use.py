"""Files whose hash is published nowhere: recorded when first used, compared from then on."""

import hashlib
import logging
import multiprocessing
from pathlib import Path

import pytest

from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.first_use import confirm, record_of
from harness.errors import UserError
from tests.datamodules.image_files import write
from tests.datamodules.test_download import AT_ONCE, CONTENT, SHA256, Server, folders, left_behind, server

__all__ = ["folders", "server"]  # fixtures

OTHER = b"something else"
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()


def file(url: str = "https://data.example/file.bin", sha256: tuple[str, ...] = ()) -> RemoteFile:
    return RemoteFile("set/raw/file.bin", url, sha256, on_first_use=bool(sha256))


def get(server: Server, folders: tuple[str, str]) -> Path:
    wanted = file(server.url)
    return fetch("toy", [wanted], *folders, patience=AT_ONCE, allow_loopback_http=True)[0]


def record(folders: tuple[str, str]) -> Path:
    return record_of("set/raw/file.bin", folders[1])


def test_no_hash_at_all_means_the_first_one_found() -> None:
    assert RemoteFile("a", "https://data.example/a").on_trust
    assert not RemoteFile("a", "https://data.example/a", (SHA256,)).on_trust
    assert RemoteFile("a", "https://data.example/a", (SHA256,), on_first_use=True).on_trust


def test_first_use_is_told_once_and_recorded_in_the_cache(
    folders: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(folders[0]) / "set/raw/file.bin"
    write(path, CONTENT)
    with caplog.at_level(logging.WARNING, "tenfold"):
        assert fetch("toy", [file()], *folders) == [path]
        assert fetch("toy", [file()], *folders) == [path]
        assert read_verified("toy", file(), *folders) == CONTENT
    (message,) = caplog.messages
    for word in ("data=toy", "on trust", str(path), SHA256, str(record(folders))):
        assert word in message
    assert record(folders) == Path(folders[1]) / "hashes/set/raw/file.bin.sha256"
    assert record(folders).read_text() == SHA256 + "\n"


def test_read_only_data_folder_is_not_written_to(folders: tuple[str, str]) -> None:
    write(Path(folders[0]) / "set/raw/file.bin", CONTENT)
    read_verified("toy", file(), *folders)
    assert [path.name for path in Path(folders[0]).rglob("*") if path.is_file()] == ["file.bin"]


@pytest.mark.parametrize("again", [fetch, read_verified])
def test_another_file_later_is_refused_with_both_hashes_and_the_way_out(
    folders: tuple[str, str], again: object
) -> None:
    path = Path(folders[0]) / "set/raw/file.bin"
    write(path, CONTENT)
    read_verified("toy", file(), *folders)
    write(path, OTHER)
    with pytest.raises(UserError) as caught:
        fetch("toy", [file()], *folders) if again is fetch else read_verified("toy", file(), *folders)
    for word in (str(path), SHA256, OTHER_SHA256, "not opened", f"delete {record(folders)}"):
        assert word in str(caught.value)
    assert path.read_bytes() == OTHER, "it may be the only copy"
    record(folders).unlink()
    assert read_verified("toy", file(), *folders) == OTHER


def test_known_copy_needs_no_record_and_another_is_recorded(
    folders: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(folders[0]) / "set/raw/file.bin"
    known = file(sha256=("0" * 64, SHA256))
    write(path, CONTENT)
    read_verified("toy", known, *folders)
    assert not record(folders).exists()
    assert not caplog.messages
    write(path, OTHER)
    assert read_verified("toy", known, *folders) == OTHER
    assert record(folders).read_text().strip() == OTHER_SHA256
    write(path, CONTENT)
    assert read_verified("toy", known, *folders) == CONTENT
    write(path, OTHER + b"!")
    with pytest.raises(UserError, match="not the file that was used first"):
        read_verified("toy", known, *folders)


def test_download_is_recorded_and_another_one_later_is_discarded(
    server: Server, folders: tuple[str, str]
) -> None:
    path = get(server, folders)
    assert path.read_bytes() == CONTENT
    path.unlink()
    server.content = OTHER
    with pytest.raises(UserError) as caught:
        get(server, folders)
    for word in (server.url, SHA256, OTHER_SHA256):
        assert word in str(caught.value)
    assert left_behind(folders) - {".hashes.lock"} == {"file.bin.sha256"}
    server.content = CONTENT
    assert get(server, folders).read_bytes() == CONTENT


def test_leftover_of_an_earlier_run_is_not_continued(server: Server, folders: tuple[str, str]) -> None:
    write(Path(folders[0]) / "set/raw/file.bin.part", b"of another version")
    assert get(server, folders).read_bytes() == CONTENT
    assert len(server.seen) == 1


def test_broken_connection_is_continued_all_the_same(server: Server, folders: tuple[str, str]) -> None:
    server.cuts = iter([300_000])
    assert get(server, folders).read_bytes() == CONTENT
    assert server.seen[1]["If-Range"] == '"one"'


def test_unwritable_cache_is_a_users_mistake(tmp_path: Path) -> None:
    # A file in a folder's place cannot be written below, not even by a superuser.
    write(tmp_path / "cache", b"")
    write(tmp_path / "data/set/raw/file.bin", CONTENT)
    with pytest.raises(
        UserError, match=r"cannot be kept in .* Set paths\.cache to a folder you can write to"
    ):
        read_verified("toy", file(), str(tmp_path / "data"), str(tmp_path / "cache"))


def _confirmed(number: int, cache: str) -> bool:
    try:
        confirm("toy", "here", "set/file.bin", f"{number:064x}", cache)
    except UserError:
        return False
    return True


def test_of_several_processes_at_once_one_is_the_first(tmp_path: Path) -> None:
    jobs = [(number, str(tmp_path)) for number in range(4)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        agreed = pool.starmap(_confirmed, jobs)
    assert agreed.count(True) == 1
    assert record_of("set/file.bin", str(tmp_path)).read_text().strip() == f"{agreed.index(True):064x}"
