"""What a mistake is, for the fuzz tests, and the good configurations that it is made in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from harness.configuration.compose import compose
from harness.configuration.help import groups

CONF = Path(__file__).parents[1] / "conf"
CHOICES = groups(CONF)

PAIRS = (
    ("gat", "mini_citation"),
    ("gcn", "cora"),
    ("mlp", "citeseer"),
    ("spagan", "digits_graph"),
    ("spagan", "cora"),
    ("gat", "photo"),
    ("classifier", "digits"),
)
"""Models with data that serve them, presets among them."""


@dataclass(frozen=True)
class Mistake:
    """A command that must be refused.

    Attributes:
        words: the command line.
        names: what the one line on stderr must contain: the key and the value; of a tuple, any one.
        edits: new content of files below ``conf/``; None takes a file away.
        files: content of files in the working folder.
    """

    words: tuple[str, ...]
    names: tuple[str | tuple[str, ...], ...]
    edits: dict[str, bytes | None] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.words, *self.edits.items(), *self.files.items()))


@cache
def good(pair: tuple[str, str]) -> dict[str, Any]:
    """The configuration of a pair, without a mistake."""
    return compose([f"model={pair[0]}", f"data={pair[1]}"]).config


def entries(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full key and value of everything below a node, ``_target_`` left out."""
    for key, value in node.items():
        if key != "_target_":
            yield f"{prefix}{key}", value
            if isinstance(value, dict):
                yield from entries(value, f"{prefix}{key}.")


def parent_of(config: dict[str, Any], key: str) -> dict[str, Any]:
    node = config
    for part in key.split(".")[:-1]:
        node = node[part]
    return node


pairs = st.sampled_from(PAIRS)

harmless = st.lists(
    st.sampled_from(["seed=7", "trainer.log_every_n_steps=2", "callbacks.progress.every_seconds=1.5"]),
    unique=True,
    max_size=2,
)
"""Good words that stand around the bad one."""


@st.composite
def among_good(draw: st.DrawFn, pair: tuple[str, str], *bad: str) -> tuple[str, ...]:
    """The bad words anywhere in an otherwise good command."""
    taken = {word.lstrip("+~").partition("=")[0] for word in bad}
    around = [word for word in draw(harmless) if word.partition("=")[0] not in taken]
    words = [f"model={pair[0]}", f"data={pair[1]}", *around]
    for word in bad:
        words.insert(draw(st.integers(0, len(words))), word)
    return tuple(words)


@st.composite
def misspelt(draw: st.DrawFn, word: str, taken: Sequence[str]) -> str:
    """``word`` with a letter lost, doubled, changed or exchanged with the next."""
    at = draw(st.integers(0, len(word) - 1))
    letter = draw(st.sampled_from("aeioqstxz_"))
    ways = {
        "lost": word[:at] + word[at + 1 :],
        "doubled": word[:at] + word[at] + word[at:],
        "changed": word[:at] + letter + word[at + 1 :],
        "exchanged": word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
        "cut": word[: at + 1],
        "capital": word.capitalize(),
        "dashed": word.replace("_", "-"),
    }
    wrong = ways[draw(st.sampled_from(sorted(ways)))]
    assume(wrong and wrong not in taken and not wrong.startswith("-"))
    return wrong
