"""What all tests on a GPU share; their forms for the CPU run here too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignores what libraries say of a GPU, of TensorFloat32 or compiled kernels: not ours to mend."""
    for item in items:
        if HERE in item.path.parents:
            for module in ("torch", "pytorch_lightning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:::{module}"))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A run may have asked for deterministic algorithms; what comes after has not."""
    yield
    torch.use_deterministic_algorithms(False)
