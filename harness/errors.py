"""The one exception for a user's mistake, and the nearest-spelling hint."""

import difflib
from collections.abc import Iterable

_LONGEST_WORD, _LONGEST_LINE = 500, 3000  # characters; a value may be a whole file by mistake


class UserError(Exception):
    """A mistake the user can mend: printed as one line on stderr, exit code 2, no traceback.

    The message names the key, the value received, what is allowed, and the fix.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(_shortened(word, _LONGEST_WORD) for word in message.split())
        # a terminal's control characters and bytes that are no text are shown, not sent
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(_shortened(shown, _LONGEST_LINE))


def _shortened(text: str, limit: int) -> str:
    """``text`` without its middle where it is longer than ``limit``: what is wrong, ..., how to mend it."""
    return text if len(text) <= limit else f"{text[: limit * 2 // 3]}…{text[-limit // 3 :]}"


def nearest(word: str, choices: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of ``choices``, or an empty string when none is close.

    Two letters exchanged count as nothing, and so does a word cut short: ``hiden`` is close to
    ``hidden_channels``.
    """
    if len(word) > 100:  # no misspelling, and slow to compare
        return ""

    def closeness(choice: str) -> float:
        if sorted(choice) == sorted(word):
            return 1.0
        whole = difflib.SequenceMatcher(None, word, choice).ratio()
        start = difflib.SequenceMatcher(None, word, choice[: len(word) + 1]).ratio() if len(word) > 2 else 0.0
        return max(whole, 0.9 * start)

    best = max(choices, key=closeness, default="")
    return f" Did you mean '{best}'?" if best and closeness(best) >= 0.6 else ""
