"""Facts of a data set: stated in its YAML, where models refer to them, and compared with the data."""

from collections.abc import Mapping

from harness.errors import UserError


def check_facts(choice: str, stated: Mapping[str, int], found: Mapping[str, int]) -> None:
    """Compares what the YAML states with what the data hold.

    Args:
        choice: the ``data=`` choice, for the message.
        stated: facts by their key under ``data``.
        found: the same facts, taken from the data.

    Raises:
        UserError: the first that does not agree.
    """
    for key, value in found.items():
        if stated[key] != value:
            raise UserError(
                f"data.{key}={stated[key]} does not agree with the data: {choice} has {key}={value}. "
                f"Set data.{key}={value}."
            )
