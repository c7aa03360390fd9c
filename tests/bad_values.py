"""Choices, keys, values and references that are wrong, on a command line that can be read."""

import re

from hypothesis import assume
from hypothesis import strategies as st

from tests.mistakes import CHOICES, Mistake, among_good, entries, good, harmless, misspelt, pairs, parent_of

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
    "model.network.width": _NOT_POSITIVE,
    "model.network.name": ["vgg17", "plain", "resnet-18"],
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
            st.sampled_from(["seed", "model.optimizer.lr", "trainer.max_epochs", "data.num_classes", "ckpt"]),
            min_size=2,
            max_size=3,
            unique=True,
        )
    )
    words = [f"{key}=${{{following}}}" for key, following in zip(keys, keys[1:] + keys[:1], strict=True)]
    return Mistake(draw(among_good(pair, *words)), ("${",))
