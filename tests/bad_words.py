"""Words that cannot be read: grammar, flags, length."""

import re

from hypothesis import assume
from hypothesis import strategies as st

from harness.configuration.command_line import _FLAGS, _HABITS
from tests.bad_values import names
from tests.mistakes import CHOICES, Mistake, among_good, entries, good, misspelt, pairs

_BROKEN_VALUES = [
    "[1,2",
    "1]",
    "{a:1",
    "a}",
    "'abc",
    'a"',
    "[[1]",
    "(",
    ")",
    "a(b",
    "${",
    "${model",
    "[,]",
    "{:}",
]
_BROKEN_VALUES += [
    "[1 2",
    "{a}",
    "=3",
    "a=b=c",
    "\\",
    "[1,2]]",
    "{a:1}}",
    "'it's'",
    "three\tfour(",
    "a:b:[",
    "$(",
]
_BROKEN_VALUES += [
    "ĝ[",
    "日本語",
    "naïve",
    "\u2028",
    "😀",
    "\x1b[31mred",
    "a\x00b",
    "\x00",
    "\udcff",
    "\r",
    "a\nb",
    "´",
]


@st.composite
def unreadable_words(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    key = draw(st.sampled_from(sorted(key for key, _ in entries(good(pair)) if key not in CHOICES)))
    value = draw(st.sampled_from(_BROKEN_VALUES))
    return Mistake(draw(among_good(pair, f"{key}={value}")), (key, *_printable_start(value)))


def _printable_start(value: str) -> tuple[str, ...]:
    match = re.match(r"[ -~]+", value)
    return (match[0].strip(),) if match else ()


_BROKEN_KEYS = [
    "",
    " ",
    ".",
    "..",
    "=",
    "model..heads",
    ".model",
    "model.",
    "model[0]",
    "model heads",
    "mödel",
    "a b",
]
_BROKEN_KEYS += [
    "(model)",
    "'seed'",
    '"seed"',
    "se\x00ed",
    "model:heads",
    "{seed}",
    "$seed",
    "😀",
    "-",
    "+",
    "~",
    "+~",
]
_BROKEN_KEYS += [
    "model,data",
    "model.heads[0]",
    "seed ",
    "@",
    "model@",
    "@model",
    "model@:x",
    "/",
    "model/",
    "//",
    "%",
]
_BROKEN_KEYS += [
    "model/gat",
    "model/gat.heads",
    "data/../model",
    "null",
    "true",
    "1",
    "1.5",
    "\t",
    "\x1b[0m",
    "*",
    "?",
]


@st.composite
def unreadable_keys(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    key = draw(st.sampled_from(_BROKEN_KEYS))
    rest = draw(st.sampled_from(["", "=1", "=", "=abc", "=[1,2]"]))
    assume(not (key == "-" and not rest))
    return Mistake(draw(among_good(pair, key + rest)), _printable_start(key) if key.isprintable() else ())


@st.composite
def very_long(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    key = draw(
        st.sampled_from(["seed", "model.optimizer.lr", "mode", "trainer.max_epochs", "hardware.accelerator"])
    )
    unit = draw(st.sampled_from(["x", "9", "[", "ab ", "-", "1.", "'", "${", "é"]))
    size = draw(st.sampled_from([300, 5_000]))
    place = draw(st.sampled_from(["value", "key", "choice"]))
    if place == "value":
        return Mistake(draw(among_good(pair, f"{key}={unit * size}")), (key,))
    if place == "choice":
        return Mistake(draw(among_good(pair, f"model={unit * size}")), ("model=",))
    return Mistake(draw(among_good(pair, f"model.{unit.strip() * size}=1")), ("model.",))


@st.composite
def unknown_flags(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    known = [flag.lstrip("-") for flag in _FLAGS]
    flag = draw(
        st.sampled_from(sorted(_HABITS)).map(lambda name: f"--{name}")
        | st.sampled_from(sorted(_HABITS)).map(lambda name: f"--{name.replace('-', '_')}=3")
        | st.sampled_from(known).flatmap(lambda name: misspelt(name, known)).map(lambda name: f"--{name}")
        | names.map(lambda name: f"--{name}")
        | st.sampled_from(
            ["-x", "-lr", "---", "--=3", "-=", "--é", "-0", "-1.5", "--\x00", "--cfg=jobs", "--cfg=", "-é"]
        )
    )
    assume("=" in flag or not (flag.lstrip("-") in known or flag.startswith(("-h", "-V", "-m", "-c"))))
    return Mistake(draw(among_good(pair, flag)), _printable_start(flag))
