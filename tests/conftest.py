"""What several tests share."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest


def pytest_configure() -> None:
    # a shell that starts the tests in the background has them and all that they start ignore Ctrl-C
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets; tests that need one skip where there is none."""
    named = os.environ.get("TENFOLD_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("set TENFOLD_DATA to a folder of data sets (see README)")
    return folder


@pytest.fixture
def as_before() -> Iterator[None]:
    """Environment, threads and levels of loggers, which a run sets for its process, as they were."""
    import torch

    environment, threads = dict(os.environ), torch.get_num_threads()
    levels = {name: logging.getLogger(name).level for name in ("", "pytorch_lightning", "lightning_fabric")}
    yield
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    torch.set_num_threads(threads)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose names do not resolve, as without a network."""

    def unknown(*args: Any, **keywords: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "create_connection", unknown)
