"""Errors of libraries that a configuration has caused, told as a user's mistake."""

from pathlib import Path
from types import TracebackType

from harness.configuration.static_modules import PROJECT_ROOT

# What torch, numpy and C++ say of a size that no memory holds; only some of them have a class for it.
_NO_MEMORY = (
    "can't allocate memory",
    "Storage size calculation overflowed",
    "bad_alloc",
    "not enough memory",
)


def library_mistake(error: Exception) -> str | None:
    """The sentence for an error that another configuration would not have; None where it may be a bug.

    Known are what Lightning itself calls a misconfiguration, sizes that no memory and numbers that no float
    holds, and whatever arises in a callback or logger of Lightning's, all of which were chosen by the user.

    Args:
        error: with its traceback.
    """
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    first = first_line(error).rstrip(".")
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return (
            f"this machine has not the memory for the settings of model and data ({first}). Make one of their"
            " sizes smaller, such as data.batch_size or model.hidden_channels."
        )
    if "without overflow" in str(error):
        return (
            f"a setting of model is too large for the numbers that torch computes with ({first}). Make it"
            " smaller, such as model.optimizer.lr."
        )
    place = _plugin(error.__traceback__)
    if place:
        return f"{place} cannot be used with this model: {first}. Take it away, or give it other values."
    if isinstance(error, MisconfigurationException):
        return f"trainer, hardware or callbacks: {first}."
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, its class where it has none; torch appends its own stack to some."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _plugin(traceback: TracebackType | None) -> str | None:
    """Lightning's callback or logger in which an error arose; None if code of this project came after it."""
    found = None
    while traceback is not None:
        file = Path(traceback.tb_frame.f_code.co_filename)
        if file.parent.parent.name == "pytorch_lightning" and file.parent.name in ("callbacks", "loggers"):
            owner = traceback.tb_frame.f_locals.get("self")
            found = f"pytorch_lightning.{file.parent.name}.{type(owner).__name__ if owner else file.stem}"
        elif file.is_relative_to(PROJECT_ROOT) and "site-packages" not in file.parts:
            found = None
        traceback = traceback.tb_next
    return found
