"""Errors of libraries that another configuration would not have."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from harness.library_errors import library_mistake
from tests.command_lines import MINI, Output, command

pytestmark = pytest.mark.usefixtures("as_before")


def test_what_may_be_a_bug_stays_an_error() -> None:
    for error in (RuntimeError("shapes"), ValueError("x"), ZeroDivisionError(), KeyError("a")):
        assert library_mistake(error) is None


def test_what_lightning_calls_a_misconfiguration_is_one() -> None:
    assert library_mistake(MisconfigurationException("No such thing.\nmore")) == (
        "trainer, hardware or callbacks: No such thing."
    )


@pytest.mark.parametrize("shape", [(2**50,), (2**40, 2**40)])
def test_a_size_that_no_memory_holds_is_told_with_what_to_make_smaller(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(shape)
    message = library_mistake(caught.value)
    assert message is not None
    assert "has not the memory" in message
    assert "data.batch_size" in message
    assert library_mistake(MemoryError()) is not None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model.hidden_channels=1000000000000",), "has not the memory"),
        (
            ("+callbacks.x._target_=pytorch_lightning.callbacks.BackboneFinetuning",),
            "pytorch_lightning.callbacks.BackboneFinetuning cannot be used with this model",
        ),
        (("model.optimizer.lr=1e38",), "too large for the numbers"),
        (("+trainer.limit_train_batches=0.5",), "trainer, hardware or callbacks: You requested to check 0.5"),
        (("+logger.x._target_=pytorch_lightning.loggers.CometLogger",), "logger.x: "),
    ],
)
def test_a_run_ends_in_one_line(tmp_path: Path, capsys: Output, words: tuple[str, ...], says: str) -> None:
    assert command(tmp_path, *MINI, *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert says in err.splitlines()[-1]
    assert "Traceback" not in err
