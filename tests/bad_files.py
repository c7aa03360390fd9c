"""Folders of configuration files with one mistake each, and what the line about it must name."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import yaml
from hypothesis import assume
from hypothesis import strategies as st

from tests.bad_values import WRONG_TYPES
from tests.mistakes import CHOICES, CONF, Mistake, entries, good, misspelt, pairs

TOP = "config.yaml"


def command(pair: tuple[str, str], *more: str) -> tuple[str, ...]:
    return (f"model={pair[0]}", f"data={pair[1]}", *more)


def text_of(file: str) -> str:
    return (CONF / file).read_text(encoding="utf-8")


@st.composite
def files(draw: st.DrawFn, pair: tuple[str, str]) -> str:
    """A file that the command of this pair reads."""
    model, data = pair
    found = [f"model/{model}.yaml", f"data/{data}.yaml", "trainer/default.yaml", "hardware/auto.yaml"]
    found += ["callbacks/default.yaml", TOP]
    preset = f"experiment/{model}_{data}"
    if preset.partition("/")[2] in CHOICES["experiment"]:
        found.append(f"{preset}.yaml")
    return draw(st.sampled_from(found))


def place_of(file: str) -> str:
    """Where the keys of a file stand in the configuration, with a dot behind; nothing for the root."""
    group = file.partition("/")[0]
    return "" if file == TOP or group == "experiment" else f"{group}."


def content_of(file: str) -> dict[str, Any]:
    content = yaml.safe_load(text_of(file))
    content.pop("defaults", None)
    assert isinstance(content, dict)
    return content


def changed(file: str, pattern: str, replacement: str) -> dict[str, bytes | None]:
    text = text_of(file)
    new = re.sub(pattern, lambda _: replacement, text, count=1, flags=re.MULTILINE)
    assume(new != text)
    return {file: new.encode()}


@st.composite
def misspelt_keys(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    file = draw(files(pair))
    place = place_of(file)
    config = good(pair)
    # one line of the file, one key on it
    lines = [m for m in re.finditer(r"^( *)(\w+):", text_of(file), re.MULTILINE) if m[2] != "defaults"]
    line = draw(st.sampled_from(lines))
    assume(place != "callbacks." or line[1])  # a callback may have any name
    above = [m for m in lines if m.start() < line.start() and len(m[1]) < len(line[1])]
    depth, parents = len(line[1]), []
    for match in reversed(above):
        if len(match[1]) < depth:
            parents.insert(0, match[2])
            depth = len(match[1])
    node: Any = config
    for part in [*place.split("."), *parents]:
        node = node[part] if part else node
    wrong = draw(misspelt(line[2], [*node, *_constructor_keys(place, parents), "defaults", "_target_"]))
    text = text_of(file)
    new = text[: line.start(2)] + wrong + text[line.end(2) :]
    where = f"{place}{''.join(f'{parent}.' for parent in parents)}"
    edits: dict[str, bytes | None] = {file: new.encode()}
    if line[2] == "_target_":
        return Mistake(command(pair), (where.strip("."), "_target_"), edits)
    # or the reference that now leads nowhere
    return Mistake(command(pair), ((f"{where}{wrong}", f"${{{where}{line[2]}"),), edits)


def _constructor_keys(place: str, parents: list[str]) -> list[str]:
    """Keys that are right although no file lists them."""
    return (
        ["fast_dev_run", "betas", "eps", "max_steps"] if place == "trainer." or "optimizer" in parents else []
    )


@st.composite
def wrong_values(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    file = draw(files(pair))
    place = place_of(file)
    scalars = {
        key: value
        for key, value in entries(content_of(file))
        if not isinstance(value, dict | list) and (value is not None or key == "scheduler")
        if not (isinstance(value, str) and "${" in value) and f"{place}{key}" not in ("hardware.devices",)
    }
    scalars.pop("deterministic", None)
    assume(scalars)
    key = draw(st.sampled_from(sorted(scalars)))
    name = key.rpartition(".")[2]
    assume(len(re.findall(rf"^ *{name}: ", text_of(file), re.MULTILINE)) == 1)
    value = scalars[key]
    # PyYAML's floats want a dot, OmegaConf's do not
    kind = float if isinstance(value, str) and re.fullmatch(r"[\d.]+e-?\d+", value) else type(value)
    written, shown = draw(
        st.sampled_from([w for w in WRONG_TYPES[kind] if "," not in w[0] and w[0] not in ("", "0x10")])
    )
    written = written.replace("{a:1}", "{a: 1}").replace("{zz:1}", "{zz: 1}")
    edits = changed(file, rf"^( *){name}: .*", " " * (len(key.split(".")) * 2 - 2) + f"{name}: {written}")
    more = () if file.startswith("experiment") else ("~experiment",)  # which would put the value right
    return Mistake(command(pair, *more), (f"{place}{key}", shown), edits)


_RUBBISH = [
    "  bad: [1, 2",
    "\tx: 1",
    "a: b: c",
    "just a word",
    "'unclosed",
    "- item",
    "x: {a: 1",
    "key: @value",
    "? : :",
]
_RUBBISH += [
    "%YAML 9.9",
    "&a *b",
    "x: *nowhere",
    "}",
    "x: !!python/object/apply:os.system [ls]",
    "<<: 3",
    "--- a\n--- b",
]
_RUBBISH += [
    "x: !!binary '*'",
    "x: `ls`",
    "x: \x00",
    "x: \x1b",
    "x: \ud83d",
    "seed: 1\nseed: 1",
    "[a]: 1",
    "x: !secret y",
]


@st.composite
def broken_syntax(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    file = draw(files(pair))
    lines = text_of(file).splitlines()
    at = draw(st.integers(0, len(lines)))
    rubbish = draw(st.sampled_from(_RUBBISH))
    content = "\n".join([*lines[:at], rubbish, *lines[at:]]).encode("utf-8", "surrogatepass")
    with suppress(yaml.YAMLError, UnicodeDecodeError):
        assume(not isinstance(yaml.safe_load(content.decode("utf-8")), dict))
    return Mistake(command(pair), (file.rpartition("/")[2],), {file: content})


@st.composite
def no_mappings(draw: st.DrawFn) -> Mistake:
    """Files that hold a list, a text, nothing, or bytes that are no text."""
    pair = draw(pairs)
    file = draw(files(pair))
    odd = [
        b"- a\n- b\n",
        b"just text\n",
        b"3\n",
        b"null\n",
        b"",
        b"# only a comment\n",
        b"\xff\xfe\x00",
        b"a: \xe9\n",
    ]
    odd += [b"\x00" * 100, b"\x89PNG\r\n", b"[]\n", b"a: 1\n---\nb: 2\n", b"\xef\xbb\xbf{", b"[1: 2", b"true"]
    content = draw(st.sampled_from(odd))
    assume(
        not (
            file.startswith(("experiment", "callbacks"))
            and content in (b"", b"null\n", b"# only a comment\n")
        )
    )
    group, _, name = file.rpartition("/")
    more = () if group == "experiment" else ("~experiment",)  # which may hold all that is needed
    return Mistake(command(pair, *more), ((name, group or TOP),), {file: content})


@st.composite
def missing_files(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    file = draw(files(pair))
    assume(not file.startswith("experiment"))
    return Mistake(command(pair), ((file, file.removesuffix(".yaml").replace("/", "=")),), {file: None})


_TARGETS = [
    "os.system",
    "torch.hub.load",
    "builtins.eval",
    "torch.os.system",
    "subprocess.call",
    "",
    "~",
    "3",
    "[a]",
]
_TARGETS += [
    "{a: 1}",
    "lightning_modules.nowhere.Net",
    "datamodules.planetoid",
    "run.run",
    "torch.nn.Module",
    "true",
]
_TARGETS += [
    "pytorch_lightning.Trainer",
    "harness.errors.UserError",
    "numpy.array",
    "a b c",
    "../x",
    "${nothing}",
    "''",
]


@st.composite
def wrong_targets(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    file = draw(st.sampled_from([f"model/{pair[0]}.yaml", f"data/{pair[1]}.yaml"]))
    place = place_of(file)
    how = draw(st.sampled_from(["replaced", "removed", "nested", "in a list", "hydra's own"]))
    text = text_of(file)
    target = draw(st.sampled_from(_TARGETS))
    if how == "replaced":
        return Mistake(
            command(pair), (f"{place}_target_",), changed(file, r"^_target_: .*", f"_target_: {target}")
        )
    if how == "removed":
        return Mistake(command(pair), (place.strip("."), "_target_"), changed(file, r"^_target_: .*\n", ""))
    if how == "nested":
        return Mistake(
            command(pair), (place,), {file: f"{text}\nextra: {{_target_: os.system, command: ls}}\n".encode()}
        )
    if how == "in a list":
        return Mistake(
            command(pair), (place,), {file: f"{text}\nextra: [{{_target_: os.system}}]\n".encode()}
        )
    word = draw(st.sampled_from(["_partial_: true", "_convert_: all", "_args_: [1]", "_recursive_: false"]))
    return Mistake(command(pair), (f"{place}{word.partition(':')[0]}",), {file: f"{text}\n{word}\n".encode()})


@st.composite
def wrong_defaults(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    group = draw(st.sampled_from(["trainer", "hardware", "callbacks", "logger"]))
    line = rf"^  - {group}: .*"
    wrong = draw(misspelt(group, list(CHOICES)))
    choice = yaml.safe_load(text_of(TOP))["defaults"]
    chosen = next(entry[group] for entry in choice if isinstance(entry, dict) and group in entry)
    _way, new, named = draw(
        st.sampled_from(
            [
                ("choice", f"  - {group}: nothing", "nothing"),
                ("group", f"  - {wrong}: {chosen}", wrong),
                ("absent", "", group),
                ("null", f"  - {group}: null", group),
                ("number", f"  - {group}: 3", "3"),
                ("mapping", f"  - {group}: {{a: 1}}", ""),
                ("missing", f"  - {group}: ???", group),
                ("twice", f"  - {group}: {chosen}\n  - {group}: {chosen}", group),
                ("reference", f"  - {group}: ${{nothing}}", "nothing"),
                ("override", f"  - override {group}: {chosen}", group),
                ("no list", f"  {group}: {chosen}", ""),
            ]
        )
    )
    return Mistake(command(pair, "~experiment"), (named,), changed(TOP, line, new))


@st.composite
def references(draw: st.DrawFn) -> Mistake:
    pair = draw(pairs)
    file = draw(st.sampled_from([f"model/{pair[0]}.yaml", f"data/{pair[1]}.yaml", "trainer/default.yaml"]))
    place = place_of(file)
    key = draw(st.sampled_from(sorted(key for key in content_of(file) if key != "_target_")))
    reference = draw(
        st.sampled_from(
            [
                "${nothing}",
                f"${{{place}{key}}}",
                "${data.in_chanels}",
                "${oc.env:TENFOLD_UNSET}",
                "${no_such:1}",
                "???",
            ]
        )
    )
    named = reference if reference != "???" else ""
    # with what is written below the key, where its value is a group of lines
    edits = changed(file, rf"^{key}:.*(\n +.*)*", f"{key}: {reference}")
    return Mistake(command(pair, "~experiment"), (f"{place}{key}", named), edits)


@st.composite
def wrong_packages(draw: st.DrawFn) -> Mistake:
    """Presets that do not stand at the root, belong to another pair or choose by themselves."""
    pair = draw(st.sampled_from([pair for pair in CHOICES["experiment"] if pair.endswith("_cora")]))
    model = pair.partition("_")[0]
    file = f"experiment/{pair}.yaml"
    text = text_of(file)
    edits, named = draw(
        st.sampled_from(
            [
                ({file: text.replace("# @package _global_", "# A preset.").encode()}, "experiment"),
                ({file: text.replace("_global_", "modle").encode()}, "modle"),
                ({file: f"{text}\ndefaults:\n  - /model: nothing\n".encode()}, ("nothing", "model")),
                ({file: f"{text}\nhydra: {{run: {{dir: x}}}}\n".encode()}, "hydra"),
            ]
        )
    )
    return Mistake((f"model={model}", "data=cora"), (named,), edits)


CONF_FILES: dict[str, Callable[[], st.SearchStrategy[Mistake]]] = {
    "misspelt key": misspelt_keys,
    "wrong value": wrong_values,
    "broken syntax": broken_syntax,
    "no mapping": no_mappings,
    "missing file": missing_files,
    "wrong target": wrong_targets,
    "wrong default": wrong_defaults,
    "reference": references,
    "wrong package": wrong_packages,
}
