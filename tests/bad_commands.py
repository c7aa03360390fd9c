"""Commands and configuration files with one mistake each, and what the line about it must name."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from harness.configuration.command_line import _FLAGS, _HABITS
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


# What stands in a good configuration -------------------------------------------------------------------


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


# On the command line ----------------------------------------------------------------------------------

names = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789_", min_size=1, max_size=30)


@st.composite
def wrong_choices(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    group = draw(st.sampled_from(sorted(CHOICES)))
    odd = st.sampled_from(
        [
            "",
            "null",
            "true",
            "1",
            "1.5",
            "-1",
            "nan",
            "../model/gat",
            "/etc/passwd",
            "gat.yaml",
            "a/b",
            "None",
        ]
    )
    near = st.sampled_from(CHOICES[group]).flatmap(lambda choice: misspelt(choice, CHOICES[group]))
    choice = draw(odd | near | names)
    assume(choice not in CHOICES[group])
    word = f"{group}={choice}"
    return Mistake(draw(among_good(pair, word)), (word,))


@st.composite
def unknown_keys(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    config = good(pair)
    key = draw(st.sampled_from(sorted(key for key, _ in entries(config))))
    parts = key.split(".")
    depth = draw(st.integers(0, len(parts) - 1))
    siblings = {*parent_of(config, ".".join(parts[: depth + 1])), *(CHOICES if depth == 0 else ())}
    parts[depth] = draw(misspelt(parts[depth], sorted(siblings)))
    # A logger passes on what it does not know to the library behind it.
    sign = draw(st.sampled_from(["", "", "~", "+", "++"])) if parts[0] != "logger" else ""
    value = "" if sign == "~" else "=" + draw(st.sampled_from(["1", "abc", "null", "[1,2]", "true"]))
    wrong = ".".join(parts[: depth + 1])
    return Mistake(draw(among_good(pair, f"{sign}{'.'.join(parts)}{value}")), (wrong,))


@st.composite
def wrong_pairs(draw: st.DrawFn) -> Mistake:
    """A method and data of another task, and presets of other pairs."""
    graph, images = ("gat", "gcn", "mlp", "spagan"), ("classifier", "distillation")
    citations = ("cora", "pubmed", "photo", "digits_graph")
    model, data = draw(
        st.tuples(st.sampled_from(graph), st.just("digits"))
        | st.tuples(st.sampled_from(images), st.sampled_from(citations))
    )
    if draw(st.booleans()):
        pair = draw(pairs)
        preset = draw(st.sampled_from(CHOICES["experiment"]))
        assume(preset != "_".join(pair))
        return Mistake(
            draw(among_good(pair, f"experiment={preset}")), (f"experiment={preset}", f"model={pair[0]}")
        )
    words = draw(st.permutations([f"model={model}", f"data={data}", *draw(harmless)]))
    return Mistake(tuple(words), (f"model={model}", f"data={data}"))


# What cannot stand where a value of this type does: as written, as shown.
WRONG_TYPES: dict[type, list[tuple[str, str]]] = {
    int: [
        ("abc", "'abc'"),
        ("1.5", "1.5"),
        ("'3'", "'3'"),
        ("true", "True"),
        ("[1,x]", "[1, 'x']"),
        ("{a:1}", "{'a': 1}"),
        ("''", "''"),
        ("", "''"),
        ("1e3", "1000.0"),
        ("3..4", "'3..4'"),
        ("0x10", "'0x10'"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("'drei vier'", "'drei vier'"),
    ],
    float: [
        ("abc", "'abc'"),
        ("'0.5'", "'0.5'"),
        ("true", "True"),
        ("[0.1]", "[0.1]"),
        ("{a:1}", "{'a': 1}"),
        ("", "''"),
        ("0,5", "0,5"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("-inf", "-inf"),
        ("1_e", "'1_e'"),
        ("50%", "50%"),
    ],
    bool: [("2", "2"), ("yess", "'yess'"), ("[true]", "[True]"), ("{a:1}", "{'a': 1}"), ("''", "''")],
    str: [("3", "3"), ("1.5", "1.5"), ("true", "True"), ("[a]", "['a']"), ("{a:1}", "{'a': 1}")],
    list: [("3", "3"), ("abc", "'abc'"), ("true", "True"), ("{a:1}", "{'a': 1}")],
    type(None): [("{zz:1}", "{'zz': 1}"), ("[[[]]]", "[[[]]]")],
    dict: [("3", "3"), ("abc", "abc"), ("[1,2]", "[1,2]"), ("null", "null"), ("''", "")],
}

# Numbers that may be a list or a word as well.
_SEVERAL_TYPES = {"hardware.devices", "trainer.deterministic"}

_NEVER_NULL = {
    "seed",
    "mode",
    "paths.data",
    "paths.runs",
    "paths.cache",
    "model.dropout",
    "model.optimizer.lr",
}
_NEVER_NULL |= {
    "hardware.accelerator",
    "hardware.precision",
    "hardware.threads",
    "trainer.max_epochs",
    "data.in_channels",
}


@st.composite
def wrong_types(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    config = good(pair)
    found = sorted(
        key
        for key, _ in entries(config)
        if key not in _SEVERAL_TYPES and key not in CHOICES and key != "published"
    )
    key = draw(st.sampled_from(found))
    value = dict(entries(config))[key]
    written, shown = draw(st.sampled_from(WRONG_TYPES[type(value)]))
    if key in _NEVER_NULL and draw(st.booleans()):
        written, shown = "null", "None"
    return Mistake(draw(among_good(pair, f"{key}={written}")), (key, (shown, f"{key}={written}")))


_NOT_POSITIVE = ["0", "-1", "-7"]
_NO_PROBABILITY = ["-0.1", "1.0", "1.5", "7", "-1e-9"]
_NO_RATE = ["0", "0.0", "-0.01", "-1e10"]
_RANGES = {
    "seed": ["-1", "4294967296", "-99999999999999999999", "1" + "0" * 40],
    "mode": ["train", "fitt", "FIT", "evaluate"],
    "model.heads": _NOT_POSITIVE,
    "model.hidden_channels": _NOT_POSITIVE,
    "model.out_heads": _NOT_POSITIVE,
    "model.num_layers": _NOT_POSITIVE,
    "model.epochs_per_call": _NOT_POSITIVE,
    "model.dropout": _NO_PROBABILITY,
    "model.optimizer.lr": _NO_RATE,
    "model.optimizer.weight_decay": ["-0.1", "-5e-4"],
    "model.optimizer.name": [
        "Adm",
        "adam",
        "Optimizer",
        "torch.optim.Adam",
        "_Adam",
        "os.system",
        "lr_scheduler",
    ],
    "model.max_path_nodes": ["1", "0", "-3"],
    "model.path_pool": ["maximum", "sum", "MAX"],
    "model.edge_cost": ["attentio", "none"],
    "trainer.max_epochs": [*_NOT_POSITIVE, "-1"],
    "trainer.min_epochs": [*_NOT_POSITIVE, "99999999"],
    "trainer.log_every_n_steps": _NOT_POSITIVE,
    "hardware.accelerator": ["tpu", "cuda", "GPU"],
    "hardware.devices": ["0", "-1", "all", "[-1]", "1.5"],
    "hardware.num_nodes": _NOT_POSITIVE,
    "hardware.strategy": ["dpp", "ddp_spawn", "fsdp2", "deepspeed_stage_9"],
    "hardware.precision": ["16", "32", "fp16", "8-bit"],
    "hardware.threads": _NOT_POSITIVE,
    "callbacks.best_weights.patience": _NOT_POSITIVE,
    "callbacks.best_weights.mode": ["minimum", "lowest"],
    "callbacks.progress.every_seconds": ["-1", "-0.5"],
    "data.num_neighbors": _NOT_POSITIVE,
    "data.train_per_class": _NOT_POSITIVE,
    "data.num_val": ["-1"],
    "data.batch_size": _NOT_POSITIVE,
    "model.width": _NOT_POSITIVE,
    "model.depth": _NOT_POSITIVE,
    "model.norm": ["group", "Batch", "layer_norm"],
    "model.label_smoothing": ["-0.1", "1.5"],
    "model.scheduler_interval": ["batch", "epochs"],
    "data.name": ["Coral", "cora", "PubMd"],
}


@st.composite
def out_of_range(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    known = dict(entries(good(pair)))
    key = draw(st.sampled_from(sorted(key for key in _RANGES if key in known)))
    value = draw(st.sampled_from(_RANGES[key]))
    shown = repr(float(value)) if re.fullmatch(r"-?\d+e-?\d+", value) else value
    return Mistake(draw(among_good(pair, f"{key}={value}")), (key, shown))


@st.composite
def broken_references(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    config = good(pair)
    known = dict(entries(config))
    key = draw(st.sampled_from(sorted(key for key in known if key not in CHOICES)))
    other = draw(st.sampled_from(sorted(k for k in known if "." in k)))
    reference = draw(
        st.sampled_from(
            [
                "${nothing}",
                "${model.nothing}",
                "${data.in_chanels}",
                f"${{{key}}}",
                f"${{{key}.inner}}",
                f"${{.{key.rpartition('.')[2]}}}",
                "${oc.env:TENFOLD_UNSET}",
                "${oc.env}",
                "${no_resolver:1}",
                "${oc.decode:${nothing}}",
                f"${{{draw(misspelt(other, sorted(known)))}}}",
            ]
        )
    )
    assume(reference[2:-1] not in known)
    quote = draw(st.sampled_from(["", "'"]))
    return Mistake(draw(among_good(pair, f"{key}={quote}{reference}{quote}")), (key, reference))


@st.composite
def circles(draw: st.DrawFn) -> Mistake:
    """Two or three keys that refer to each other."""
    pair = draw(pairs)
    keys = draw(
        st.lists(
            st.sampled_from(["seed", "model.dropout", "trainer.max_epochs", "data.num_classes", "ckpt"]),
            min_size=2,
            max_size=3,
            unique=True,
        )
    )
    words = [f"{key}=${{{following}}}" for key, following in zip(keys, keys[1:] + keys[:1], strict=True)]
    return Mistake(draw(among_good(pair, *words)), ("${",))


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
        st.sampled_from(["seed", "model.dropout", "mode", "trainer.max_epochs", "hardware.accelerator"])
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


@st.composite
def signs(draw: st.DrawFn) -> Mistake:
    """``+``, ``++``, ``~``, ``@`` and ``/`` where they do not belong."""
    pair = draw(pairs)
    config = good(pair)
    leaves = [key for key, value in entries(config) if not isinstance(value, dict)]
    needed = [
        key
        for key in leaves
        if key.startswith(("model.", "data.", "hardware.", "paths.", "callbacks."))
        and ".optimizer." not in key
        and "scheduler." not in key
    ]
    needed += ["seed", "mode", "trainer.max_epochs", "model.optimizer.name", "paths", "model.optimizer"]
    group = draw(st.sampled_from(sorted(set(CHOICES) - {"experiment"})))
    choice = draw(st.sampled_from(CHOICES[group]))
    key = draw(st.sampled_from(needed))
    word, name = draw(
        st.sampled_from(
            [
                (f"~{key}", key),
                (f"~{group}", group),
                (f"~{group}={choice}", group),
                (f"+{group}={choice}", group),
                (f"++{group}={choice}", group),
                (f"{group}@there={choice}", group),
                (f"{group}/{choice}=1", group),
                (f"hydra.run.dir={choice}", "hydra"),
                (f"hydra/launcher={choice}", "hydra"),
                (f"+hydra.mode={choice}", "hydra"),
                (f"{group}=[{choice}]", group),
                (f"{key}.inner=1", key),
                (f"+{key}.inner=1", key),
                (f"~{key}.inner", key),
            ]
        )
    )
    return Mistake(draw(among_good(pair, word)), (name,))


@st.composite
def twice(draw: st.DrawFn) -> Mistake:
    """Words that take away what another word has taken away, or that a later word spoils."""
    pair = draw(pairs)
    word = draw(st.sampled_from(["~callbacks.pictures", "~callbacks.progress", "~published"]))
    if draw(st.booleans()):
        return Mistake(draw(among_good(pair, word, word)), (word[1:],))
    key, value = draw(
        st.sampled_from([("seed", "-1"), ("model.dropout", "2"), ("trainer.max_epochs", "many")])
    )
    words = draw(among_good(pair, f"{key}=1"))
    return Mistake((*words, f"{key}={value}"), (key, value))


@st.composite
def wrong_modes(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    mode = draw(st.sampled_from(["test", "predict"]))
    missing = draw(
        st.sampled_from(["/nowhere/best.ckpt", "best.ckpt", ".", "/", "~/nothing.ckpt", "a/b/c", "x" * 300])
    )
    address = draw(
        st.sampled_from(["https://x.y/best.ckpt", "s3://bucket/best.ckpt", "file:///tmp/best.ckpt"])
    )
    given_ = draw(st.sampled_from([None, "", "null", missing, address]))
    if given_ is None:
        return Mistake(draw(among_good(pair, f"mode={mode}")), ("ckpt", f"mode={mode}"))
    shown = (
        given_ if given_ in (missing, address) and not given_.startswith("~") and len(given_) < 300 else ""
    )
    return Mistake(draw(among_good(pair, f"mode={mode}", f"ckpt={given_}")), ("ckpt", shown))


@st.composite
def wrong_resumes(draw: st.DrawFn) -> Mistake:
    """Runs to go on with that are none, or are over, or whose record is damaged."""
    pair = draw(pairs)
    odd = [
        "/nowhere",
        "nowhere/run",
        ".",
        "/",
        "/etc/passwd",
        "~nobody/run",
        "x" * 300,
        "[1,2]",
        "{a:1}",
        "${nothing}",
    ]
    odd += ["1.5", "true", "atuo", "'~/no such run'", "https://x.y/run", "'a", "läufe/1", "a\x00b", "run/"]
    record = b'{"words": [%s], "choices": {}, "configuration": "x", "tracker_id": "x", "sessions": []}'
    damaged = [
        b"",
        b"text",
        b"[]",
        b"{}",
        b"3",
        b"null",
        b"\xff\xfe",
        b'{"words": 3}',
        b'{"words": ["seed=1"], "x": 1}',
    ]
    damaged += [
        record % word
        for word in (b'"model=gatt"', b"3", b'["a"]', b'"+a.token=***"', b'"seed=${no}"', b"null")
    ]
    damaged += [
        (record % b"").replace(b"[]", bad, 1)
        for bad in (b"7", b'"seed=1"', b"{}", b"[[]]", b"null", b"[null]")
    ]
    way = draw(st.sampled_from(["odd", "damaged", "finished", "a file"]))
    if way == "odd":
        return Mistake(draw(among_good(pair, f"resume={draw(st.sampled_from(odd))}")), ("resume",))
    files = {
        "damaged": {"old/run.json": draw(st.sampled_from(damaged))},
        "finished": {"old/run.json": record % b"", "old/results.json": b"{}"},
        "a file": {"old": b""},
    }
    return Mistake(("resume=old",), (("resume=old", "model=gatt", "${no}"),), files=files[way])


@st.composite
def wrong_sweeps(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    with_m = [
        ("seed=1,x", "seed"),
        ("seed=1,-1", "seed"),
        ("seed=1,2,", "seed"),
        ("seed=range(0,x)", "seed"),
        ("seed=range(0)", "seed"),
        ("seed=choice()", "seed"),
        ("seed=interval(0,1)", "seed"),
        ("model=gat,gcc", "gcc"),
        ("data=cora,core", "core"),
        ("hardware=cpu,cqu", "cqu"),
        ("model.dropout=0.1,2", "model.dropout"),
        ("model.hiden=1,2", "model.hiden"),
        ("model.optimizer.lr=0.1,fast", "model.optimizer.lr"),
        ("trainer.max_epochs=1,many", "trainer.max_epochs"),
        ("seed=1,${nothing}", "seed"),
        ("sweep.workers=0", "sweep.workers"),
        ("sweep.workers=two", "sweep.workers"),
        ("sweep.worker=2", "sweep.worker"),
        ("sweep.retry=fail", "sweep.retry"),
        ("sweep.stop_seconds=-1", "sweep.stop_seconds"),
        ("sweep.stop_seconds=inf", "sweep.stop_seconds"),
        ("sweep.average_over=seed", "sweep.average_over"),
        ("sweep.metric=[a]", "sweep.metric"),
        ("sweep=girid", "sweep=girid"),
        ("sweep=3", "sweep=3"),
        ("+sweep=grid", "sweep"),
        ("~sweep", "sweep"),
        ("resume=/nowhere", "resume"),
        ("mode=test,tset", "mode"),
        ("seed=glob(*)", "seed"),
        ("model=glob(x*)", "model"),
        ("seed=sort(1,x)", "seed"),
        ("seed=tag(a,1)", "seed"),
    ]
    word, name = draw(st.sampled_from([entry for entry in with_m if entry[0] != "~sweep"]))
    flag = draw(st.sampled_from(["-m", "-m", "--multirun"]))
    if draw(st.integers(0, 5)) == 0:
        several = draw(
            st.sampled_from(
                ["seed=1,2", "model=gat,gcn", "seed=range(0,3)", "seed=choice(1,2)", "data=glob(*)"]
            )
        )
        return Mistake(draw(among_good(pair, several)), (several,))
    more = draw(st.sampled_from([(), ("seed=1,2",)])) if not word.startswith("seed") else ()
    words = (f"model={pair[0]}", f"data={pair[1]}") if not word.startswith(("model=", "data=")) else ()
    around = (*words, *more, word)
    at = draw(st.integers(0, len(around)))
    return Mistake((*around[:at], flag, *around[at:]), (name,))


@st.composite
def wrong_requirements(draw: st.DrawFn) -> Mistake:
    """Of a method that starts from a trained network."""
    word, name = draw(
        st.sampled_from(
            [
                ("model.requires.teacher=/nowhere/best.ckpt", "/nowhere/best.ckpt"),
                ("model.requires.teacher=https://x.y/best.ckpt", "https://x.y"),
                ("model.requires.teacher=.", "model.requires.teacher"),
                ("model.requires.teacher=''", "model.requires.teacher"),
                ("model.requires.teacher=~nobody/x", "nobody"),
                ("model.requires.teacher=3", "3"),
                ("model.requires.teacher=true", "True"),
                ("model.requires.teacher=[3]", "[3]"),
                ("model.requires.teacher={model:classifier}", "teacher"),
                ("model.requires.teacher=[model=clasifier]", "model.requires.teacher"),
                ("model.requires.teacher=['model=clasifier']", "clasifier"),
                ("model.requires.teacher=['model=classifier','data=digts']", "digts"),
                ("model.requires.teacher=['model=classifier','data=digits','model.widht=3']", "model.widht"),
                ("model.requires.teacher=['model=classifier','data=digits','model.width=wide']", "'wide'"),
                ("model.requires.teacher=['model=gat','data=digits']", "gat"),
                ("model.requires.teacher=['model=classifier','mode=test']", "mode=test"),
                ("model.requires.teacher=['model=classifier','resume=auto']", "resume=auto"),
                ("model.requires.teacher=['model=classifier','seed=1,2']", "seed=1,2"),
                ("model.requires.teacher=['--help']", "--help"),
                ("model.requires.teacher=['']", "model.requires.teacher"),
                ("model.requires.teacher=[]", "model.requires.teacher"),
                ("model.requires.teacher=['data=${nothing}']", "${nothing}"),
                ("model.requires.teacher=${nothing}", "${nothing}"),
                ("model.requires.teacher.x=1", "model.requires.teacher"),
                ("model.requires.techer=/x", "model.requires.techer"),
                ("+model.requires.techer=/x", "techer"),
                ("model.requires=3", "model.requires"),
                ("model.requires=null", "model.requires"),
                ("model.requires=[a]", "model.requires"),
                ("~model.requires", "teacher"),
                ("~model.requires.teacher", "teacher"),
                ("model.requires.teacher=null", "teacher"),
                ("requires=3", "requires"),
                ("+requires.x=3", "requires"),
            ]
        )
    )
    return Mistake(draw(among_good(("distillation", "digits"), word)), (name,))


@st.composite
def foreign_targets(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    targets = [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "torch.load",
        "subprocess.Popen",
        "importlib.import_module",
    ]
    targets += [
        "torch.os.system",
        "pytorch_lightning.trainer.trainer.os.system",
        "eval",
        "",
        "3",
        "null",
        "a b",
        "..",
        "é.x",
    ]
    targets += [
        "harness.session.run_session",
        "lightning_modules",
        "torch.nn.Linear",
        "run.main",
        "pickle.loads",
        "os",
    ]
    targets += [
        "datamodules.planetoid.nothing",
        "callbacks.best_weights.BestWeight",
        "hydra.utils.instantiate",
        "torch.",
    ]
    targets += [
        "tests.bad_commands.Mistake",
        "lightning_modules.experiment.ExperimentModule.__init__",
        "torch.nn",
    ]
    key = draw(
        st.sampled_from(
            ["model", "data", "callbacks.progress", "callbacks.best_weights", "+logger.x", "+callbacks.x"]
        )
    )
    target = draw(st.sampled_from(targets))
    shape = draw(st.sampled_from(["value", "inner", "list"]))
    if shape == "inner" and not key.startswith("+"):
        inner = draw(
            st.sampled_from(["model.optimizer", "+model.scheduler.x", "published", "paths", "hardware"])
        )
        key, target = inner, target or "os.system"
        sign = "" if key.startswith("+") else "+"
        return Mistake(draw(among_good(pair, f"{sign}{key}._target_='{target}'")), (key.lstrip("+"),))
    shown = target.strip("'") if target not in ("", "null") else ""
    return Mistake(
        draw(among_good(pair, f"{key}._target_='{target}'")), (f"{key.lstrip('+')}._target_", shown)
    )


COMMAND_LINES: dict[str, Callable[[], st.SearchStrategy[Mistake]]] = {
    "wrong choice": wrong_choices,
    "wrong pair": wrong_pairs,
    "unknown key": unknown_keys,
    "wrong type": wrong_types,
    "out of range": out_of_range,
    "broken reference": broken_references,
    "circle": circles,
    "unreadable word": unreadable_words,
    "unreadable key": unreadable_keys,
    "very long": very_long,
    "unknown flag": unknown_flags,
    "sign": signs,
    "twice": twice,
    "wrong mode": wrong_modes,
    "wrong resume": wrong_resumes,
    "wrong sweep": wrong_sweeps,
    "wrong requirement": wrong_requirements,
    "foreign target": foreign_targets,
}
