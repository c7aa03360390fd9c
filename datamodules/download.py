"""Files of public data sets: found on disk or downloaded, and never opened before their SHA-256 agrees.

A file is looked for under ``paths.data``, then under ``paths.cache``. What is missing is downloaded over
verified TLS into the first of the two that can be written to. A file that is there but differs from what
was published stops the run: it may be the user's only copy, so it is never replaced in silence. Of a file
whose hash is published nowhere the one found on first use is compared, see :mod:`datamodules.first_use`.

Beside a downloaded file two helpers may remain: ``<file>.part``, an unfinished download which the next run
continues (and discards if it turns out wrong), and ``.download.lock``, an empty file which lets two
processes fetch the same data set at once.

No torch in here: fetching can be tried before anything heavy is imported.
"""

import contextlib
import errno
import hashlib
import http.client
import os
import socket
import ssl
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from datamodules import first_use
from harness.errors import UserError

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 15.0  # seconds without a byte before an attempt is given up
_REACH_TIMEOUT = 5.0  # seconds in all to open the first connection; a closed network must be noticed quickly
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        path: where it lies below the folder of data sets, ``planetoid/Cora/raw/ind.cora.x``.
        url: where it is published; https.
        sha256: lower-case hashes of the copies that are accepted, the published file's first; empty where
            none is known: then any file is, if it is the same one each time.
        on_first_use: so it is beside known copies too, the published file's own hash being unknown.
    """

    path: str
    url: str
    sha256: tuple[str, ...] = ()
    on_first_use: bool = False

    @property
    def on_trust(self) -> bool:
        """Whether a file of no known hash is recorded instead of refused."""
        return self.on_first_use or not self.sha256


@dataclass(frozen=True)
class Patience:
    """How stubbornly a download is tried.

    Attributes:
        attempts: connections tried before giving up, at least 1.
        backoff: seconds before the second attempt; doubled for each further one.
    """

    attempts: int = 4
    backoff: float = 0.5


class _UnreachableError(OSError):
    """No connection to the server at all: retrying would only keep the user waiting."""


class _PassingError(OSError):
    """A passing fault: the next attempt may succeed."""


def fetch(
    name: str,
    files: Sequence[RemoteFile],
    root: str,
    cache: str,
    *,
    patience: Patience = Patience(),
    allow_loopback_http: bool = False,
    stand_in: str | None = "digits_graph",
) -> list[Path]:
    """Paths of ``files``, each verified; what is missing is downloaded first.

    Args:
        name: the ``data=`` choice, or the key that asks for the files, ``model.weights``; for messages.
        files: what the data set consists of.
        root: folder of data sets (``paths.data``); may be missing or read-only.
        cache: where downloads go when ``root`` cannot be written to (``paths.cache``).
        patience: attempts and waiting time.
        allow_loopback_http: accept plain http from this machine itself; for tests.
        stand_in: a ``data=`` choice for the same task that needs no network, for messages; None if none does.

    Returns:
        One existing path per file, in order.

    Raises:
        UserError: an existing file differs from the published or the recorded one, there is no network, the
            server fails or sends something else, the disk is full, or neither folder can be written to.
    """
    missing = next((file for file in files if locate(file, root, cache) is None), None)
    if missing is not None:
        # Before any folder is made: without a network nothing is left behind.
        with _explained(name, missing, root, cache, stand_in):
            _check_scheme(missing.url, allow_loopback_http)
            _reach(missing.url)
    paths = []
    for file in files:
        path = locate(file, root, cache)
        if path is None:
            with _explained(name, file, root, cache, stand_in):
                _check_scheme(file.url, allow_loopback_http)
                target = _writable_target(file, root, cache)
                path = _download(name, file, target, cache, patience, allow_loopback_http)
        else:
            _verify(name, file, path, _sha256_of_file(path), cache)
        paths.append(path)
    return paths


def read_verified(name: str, file: RemoteFile, root: str, cache: str) -> bytes:
    """Content of ``file``, hashed and returned from one read, so that no other content can slip between.

    Args:
        name: the ``data=`` choice, for messages.
        file: which file; it must have been fetched.
        root: folder of data sets.
        cache: second place to look.

    Raises:
        UserError: the file is missing, or its SHA-256 is not an accepted one or the one recorded.
    """
    path = _path_of(name, file, root, cache)
    content = path.read_bytes()
    _verify(name, file, path, hashlib.sha256(content).hexdigest(), cache)
    return content


@contextlib.contextmanager
def open_verified(name: str, file: RemoteFile, root: str, cache: str) -> Iterator[BinaryIO]:
    """``file``, open for reading and hashed already: for one that is too large for memory.

    Args:
        name: the ``data=`` choice, for messages.
        file: which file; it must have been fetched.
        root: folder of data sets.
        cache: second place to look.

    Raises:
        UserError: as :func:`read_verified`.
    """
    with _path_of(name, file, root, cache).open("rb") as stream:
        _verify(name, file, Path(stream.name), hashlib.file_digest(stream, "sha256").hexdigest(), cache)
        stream.seek(0)
        yield stream


def locate(file: RemoteFile, root: str, cache: str) -> Path | None:
    """Where ``file`` lies, ``root`` before ``cache``, or None; its content is not looked at."""
    for base in (root, cache):
        path = Path(base).expanduser() / file.path
        if path.is_file():
            return path
    return None


def _path_of(name: str, file: RemoteFile, root: str, cache: str) -> Path:
    path = locate(file, root, cache)
    if path is None:
        raise UserError(
            f"{_labelled(name)}: {file.path} is neither under paths.data={root} nor under"
            f" paths.cache={cache}. "
            "Call prepare_data() first: it fetches what is missing."
        )
    return path


def _labelled(name: str) -> str:
    """How messages begin: the choice of ``data=``, or the key that asked for the file."""
    return name if "." in name else f"data={name}"


def _verify(name: str, file: RemoteFile, path: Path, found: str, cache: str) -> None:
    if found in file.sha256:
        return
    if not file.on_trust:
        raise UserError(
            f"{_labelled(name)}: {path} is not the published file (altered or truncated): SHA-256 expected "
            f"{' or '.join(file.sha256)}, found {found}. It was not opened. Delete it and run again to "
            "download it, or point paths.data at a folder with the original."
        )
    first_use.confirm(name, str(path), file.path, found, cache)


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _explained(name: str, file: RemoteFile, root: str, cache: str, stand_in: str | None) -> Iterator[None]:
    """Turns what can go wrong on the way into one line with the way out."""
    other = f", or use data={stand_in}, which needs no network" if stand_in else ""
    way_out = f"Set paths.data=<folder> (or TENFOLD_DATA=<folder>) to a folder that holds it{other}."
    try:
        yield
    except (urllib.error.URLError, http.client.HTTPException, _UnreachableError, _PassingError) as error:
        raise UserError(
            f"{_labelled(name)}: {file.path} is neither under paths.data={root} nor under"
            f" paths.cache={cache}, and "
            f"{file.url} could not be downloaded ({_reason(error)}). {way_out}"
        ) from error
    except OSError as error:
        where = error.filename or f"{root} or {cache}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{_labelled(name)}: no space left while writing {file.path} to {where}. Free some, or set "
                "paths.data or paths.cache to a folder on a larger disk."
            ) from error
        raise UserError(
            f"{_labelled(name)}: {file.path} cannot be stored in {where} ({error.strerror or error}). Set "
            "paths.data or paths.cache to a folder you can write to."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _check_scheme(url: str, allow_loopback_http: bool) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return
    if not (allow_loopback_http and parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise _UnreachableError(f"refused: {url} is not https")


def _reach(url: str) -> None:
    """Tries one connection within a few seconds in all.

    Left to itself the library tries every address of a host for the full timeout, so that a network which
    swallows packets, as compute nodes often have, would keep the user waiting for minutes.

    Raises:
        _UnreachableError: the name is not known, or nothing answers.
    """
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return  # the proxy resolves and connects; its own failure is reported by the download
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise _UnreachableError(f"no network, or {host} is not known: {error.strerror}") from error
    deadline = time.monotonic() + _REACH_TIMEOUT
    # One address of each kind: a machine may have a dead IPv6 route and a good IPv4 one, or the reverse.
    kinds = list({family: address for family, *_, address in reversed(addresses)}.items())
    fault: OSError | None = None
    for left, (family, address) in zip(range(len(kinds), 0, -1), kinds, strict=True):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(max(0.1, (deadline - time.monotonic()) / left))
            try:
                probe.connect(address)
                return
            except OSError as error:
                fault = error
    raise _UnreachableError(f"no connection to {host}: {fault}") from fault


def _writable_target(file: RemoteFile, root: str, cache: str) -> Path:
    """Place for a download: below ``root`` if a file can be made there, else below ``cache``.

    Tried rather than asked: permission bits say nothing of read-only mounts or of a superuser's rights.
    """
    for base in (root, cache):
        target = Path(base).expanduser() / file.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # a name of its own each time: threads of one process may try at once
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".write_test."):
                pass
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                raise
        else:
            return target
    raise PermissionError(errno.EACCES, "neither can be written to", f"{root} or {cache}")


def _download(
    name: str, file: RemoteFile, target: Path, cache: str, patience: Patience, allow_loopback_http: bool
) -> Path:
    """Downloads to ``<target>.part``, verifies, then moves into place in one step."""
    with FileLock(target.parent / ".download.lock"):
        if target.is_file():  # another process was faster
            _verify(name, file, target, _sha256_of_file(target), cache)
            return target
        part = target.with_name(target.name + ".part")
        if file.on_trust:  # no hash would tell a leftover of another version
            part.unlink(missing_ok=True)
        transfer = _Transfer(file.url, part, allow_loopback_http)
        continued = part.exists()
        found = transfer.collect(patience)
        if continued and found not in file.sha256:
            # The leftover of an earlier run may be what is wrong: once more from the first byte.
            part.unlink()
            found = transfer.collect(patience)
        if found not in file.sha256:
            try:
                if file.on_trust:
                    first_use.confirm(name, file.url, file.path, found, cache)
                else:
                    raise UserError(
                        f"{_labelled(name)}: {file.url} sent something else than the published file: SHA-256 "
                        f"expected {' or '.join(file.sha256)}, found {found}. It was discarded unopened. Try "
                        "again later, or set paths.data=<folder> to a folder that holds the original."
                    )
            except UserError:
                part.unlink()
                raise
        part.replace(target)
    return target


class _Transfer:
    """One file on its way: where it comes from, what is there already, which version that is."""

    def __init__(self, url: str, part: Path, allow_loopback_http: bool) -> None:
        self.url = url
        self.part = part
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            _SafeRedirect(allow_loopback_http),
        )
        self.etag = ""  # of the last answer: the next one must continue the same content

    def collect(self, patience: Patience) -> str:
        """Completes ``part`` with retries; returns its SHA-256."""
        for attempt in range(patience.attempts):
            try:
                self._append()
                return _sha256_of_file(self.part)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416:  # nothing beyond our last byte: not the beginning of this file
                    self.part.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    raise
                fault: Exception = error
            except urllib.error.URLError as error:
                if isinstance(error.reason, ssl.SSLCertVerificationError | socket.gaierror):
                    raise
                fault = error
            except _PassingError as error:
                fault = error
            except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
                fault = _PassingError(str(error) or "the connection broke")
            if attempt + 1 < patience.attempts:
                time.sleep(patience.backoff * 2**attempt)
        raise fault

    def _append(self) -> None:
        """One request: continues ``part`` where the server allows it, else begins anew.

        Raises:
            _PassingError: the connection ended before the announced length.
        """
        have = self.part.stat().st_size if self.part.exists() else 0
        request = urllib.request.Request(
            self.url, headers={"Accept-Encoding": "identity", "User-Agent": "tenfold"}
        )
        if have:
            request.add_header("Range", f"bytes={have}-")
            if self.etag and not self.etag.startswith("W/"):  # a weak tag does not vouch for every byte
                request.add_header("If-Range", self.etag)
        with self.opener.open(request, timeout=_TIMEOUT) as answer:
            content_range = answer.headers.get("Content-Range", "")
            continues = answer.status == 206 and content_range.startswith(f"bytes {have}-")
            start = have if continues else 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length else None
            self.etag = answer.headers.get("ETag", "")
            mode = "ab" if continues else "wb"
            with self.part.open(mode) as sink, _progress(self.part.stem, start, total) as advance:
                while chunk := answer.read(_CHUNK):
                    sink.write(chunk)
                    advance(len(chunk))
                sink.flush()
                os.fsync(sink.fileno())
        got = self.part.stat().st_size
        if total is not None and got < total:
            raise _PassingError(f"the connection ended after {got} of {total} bytes")


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only; the library's own would follow one down to plain http."""

    def __init__(self, allow_loopback_http: bool) -> None:
        self.allow_loopback_http = allow_loopback_http

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl, self.allow_loopback_http)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _progress(label: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere. Yields what to call with each number of bytes."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda received: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, completed=start)
        yield lambda received: progress.advance(task, received)
