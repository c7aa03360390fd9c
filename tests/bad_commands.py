"""Commands that can be read and ask for what cannot be done; all kinds of bad commands by name."""

from collections.abc import Callable

from hypothesis import strategies as st

from tests.bad_values import (
    broken_references,
    circles,
    out_of_range,
    unknown_keys,
    wrong_choices,
    wrong_pairs,
    wrong_types,
)
from tests.bad_words import unknown_flags, unreadable_keys, unreadable_words, very_long
from tests.mistakes import CHOICES, Mistake, among_good, entries, good, pairs


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
        st.sampled_from([("seed", "-1"), ("model.optimizer.lr", "-2"), ("trainer.max_epochs", "many")])
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
                (
                    "model.requires.teacher=['model=classifier','data=digits','model.network.width=wide']",
                    "'wide'",
                ),
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
