"""Runs where numba is missing or broken: slower, and equal."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lightning_modules.node_classification.attention import uses_kernels
from lightning_modules.numba_import import numba_fault
from lightning_modules.spagan.path_search import find_paths
from tests.lightning_modules.spagan.path_search_reference import random_graph


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    numba_fault.cache_clear()
    yield
    numba_fault.cache_clear()


@pytest.fixture(
    params=["raise SystemError('initialization failed')", "raise ImportError('needs NumPy 1')", "1 / 0"]
)
def broken_numba(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(request.param)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)


def test_numba_is_used_where_it_works() -> None:
    pytest.importorskip("numba")
    assert numba_fault() == ""
    assert uses_kernels(torch.ones(1))


@pytest.mark.usefixtures("broken_numba")
def test_a_broken_numba_costs_a_warning_with_the_fix_and_no_result(caplog: pytest.LogCaptureFixture) -> None:
    edge_index, cost = random_graph(40, 80, "coarse", seed=5)
    found = find_paths(edge_index, cost, 40, max_path_nodes=3, path_ratio=1.0)
    assert not uses_kernels(torch.ones(1))
    assert sum("--force-reinstall numba" in record.message for record in caplog.records) == 1
    assert "numba is installed but cannot be imported" in caplog.text
    assert "through SciPy" in caplog.text
    expected = find_paths(edge_index, cost, 40, max_path_nodes=3, path_ratio=1.0, search="scipy")
    assert found.equal(expected)


def test_a_missing_numba_is_no_fault_of_the_installation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert numba_fault() == "numba is not installed"
    assert not uses_kernels(torch.ones(1))
    assert caplog.records == []
