"""The one exception for a user's mistake, and the nearest-spelling hint."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend: printed as one line on stderr, exit code 2, no traceback.

    The message names the key, the value received, what is allowed, and the fix.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def nearest(word: str, choices: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of ``choices``, or an empty string when none is close.

    Two letters exchanged count as nothing, and so does a word cut short: ``hiden`` is close to
    ``hidden_channels``.
    """

    def closeness(choice: str) -> float:
        if sorted(choice) == sorted(word):
            return 1.0
        whole = difflib.SequenceMatcher(None, word, choice).ratio()
        start = difflib.SequenceMatcher(None, word, choice[: len(word) + 1]).ratio() if len(word) > 2 else 0.0
        return max(whole, 0.9 * start)

    best = max(choices, key=closeness, default="")
    return f" Did you mean '{best}'?" if best and closeness(best) >= 0.6 else ""
