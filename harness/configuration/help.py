"""What ``run.py --help`` prints, from the files in conf/ alone: no Hydra, no torch."""

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

from harness.configuration.static_modules import PROJECT_ROOT
from harness.configuration.yaml_comments import Entry, description, entries
from harness.errors import UserError, nearest

CONF = PROJECT_ROOT / "conf"

_ORDER = ("model", "data", "trainer", "hardware", "callbacks", "logger", "sweep", "experiment")

_INTRO = """\
usage: python run.py [-m] [group=choice ...] [key=value ...] [--help | --cfg job [--resolve] | --version]

Runs one experiment: composes the configuration, checks it, fetches the data, trains, tests, and prints the
measured number beside the published one."""

_MODES = [
    ("mode=fit", "train, then test the best weights (the default)"),
    ("mode=test ckpt=<run folder>", "test the best weights of a run, or a checkpoint file"),
    ("mode=predict ckpt=<run folder>", "write their predictions to predictions.csv"),
]

_SWEEPS = [
    ("model=gcn,gat", "each of these"),
    ("seed=range(0,10)", "0 to 9; range(0,0.5,0.1) in steps"),
    ("data=glob(c*)", "the choices of a group that fit a pattern"),
    ("sweep.workers=2", "two jobs at a time; each has a process, a run folder and a GPU of its own"),
    ("resume=auto", "go on with the newest unfinished sweep of these words, or resume=<sweep folder>"),
    ("sweep.retry=failed", "of the newest sweep of these words, run what failed or is missing"),
]

_SWEEPS_NOTE = """\
With -m, every combination of the values is one job: an ordinary run. All are checked before the first starts,
and a job that fails does not end the sweep (which then ends with status 1).
<paths.runs>/sweeps/<time>_<id>/ holds summary.csv, summary.md and summary.png with mean and standard
deviation over the seeds, and jobs.csv."""

_EXAMPLES = [
    ("python run.py", "the default: needs no network and no account"),
    ("python run.py model=spagan data=cora", "a paper's experiment with its settings"),
    ("python run.py model=gat data=citeseer trainer.max_epochs=50 model.heads=4", "other settings"),
    ("python run.py model=gcn data=cora hardware=gpu seed=3 paths.data=/data", "another place"),
    ("python run.py -m model=gcn,gat,spagan data=cora 'seed=range(0,10)'", "mean and deviation of 30 runs"),
    ("python run.py model=gat data=cora mode=test ckpt=<run folder>", "test again"),
]

_ENVIRONMENT = [
    ("TENFOLD_DATA", "folder of data sets, the default of paths.data; may be read-only"),
    ("TENFOLD_CACHE", "folder for what is derived or downloaded, the default of paths.cache"),
    ("WANDB_API_KEY", "W&B's key: runs are sent there while they run; without one they stay files"),
    ("WANDB_MODE", "online, offline or disabled, the default of logger.wandb.mode"),
]

_NOTES = """\
Results: each run makes one folder <paths.runs>/<model>_<data>/<time>_<id>/ with config.yaml, results.json,
metrics.csv, checkpoints/, figures/ and run.log.

The pair of model and data decides the settings: conf/experiment/<model>_<data>.yaml is applied by itself
where it exists; ~experiment leaves it out.

What a method starts from, such as a teacher, is trained first where it is not there yet, once, in
<paths.runs>/prerequisites/; model.requires.teacher=<checkpoint or run folder> gives one instead.

To see the keys of a choice: python run.py model=gat --help. To see the composed configuration:
python run.py model=gat data=cora --cfg job, with --resolve to have references replaced by values. A key of
the class that the file does not list is added with a plus: +trainer.max_steps=100."""


def groups(conf: Path = CONF) -> dict[str, list[str]]:
    """Every group with its choices in alphabetical order; the common groups first."""
    found = {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in _folders(conf)}
    known = [name for name in _ORDER if name in found]
    return {name: found[name] for name in [*known, *sorted(set(found) - set(known))]}


def help_text(overrides: Sequence[str] = (), conf: Path = CONF, width: int | None = None) -> str:
    """The general help, or the keys of the chosen options where ``overrides`` choose some.

    Args:
        overrides: words of the command line; of ``model=gat`` the keys of that model are listed.
        conf: the configuration folder.
        width: columns to fill; the terminal's by default.

    Raises:
        UserError: when an override chooses from a group what is not there.
    """
    columns = width or min(shutil.get_terminal_size((100, 24)).columns, 120)
    available = groups(conf)
    chosen = []
    for word in overrides:
        group, _, choice = word.partition("=")
        if "." in group:
            continue
        if group in available:
            if choice not in available[group]:
                raise UserError(unknown_choice(group, choice, available[group]))
            chosen.append((group, choice))
    if chosen:
        parts = [_choice_help(group, choice, available, conf, columns) for group, choice in chosen]
        return "\n\n".join(parts)
    return _general_help(available, conf, columns)


def unknown_choice(group: str, choice: str, choices: Sequence[str]) -> str:
    """The sentence for an option that a group does not have."""
    listed = ", ".join(choices) or "none yet"
    return f"there is no {group}={choice}.{nearest(choice, choices)} Choices of {group}: {listed}."


def _folders(conf: Path) -> list[Path]:
    return [folder for folder in conf.iterdir() if folder.is_dir() and any(folder.glob("*.yaml"))]


def _general_help(available: dict[str, list[str]], conf: Path, width: int) -> str:
    top = entries(conf / "config.yaml")
    defaults = _defaults(conf / "config.yaml")
    parts = [_INTRO]
    for group, choices in available.items():
        default = f" (default: {defaults[group]})" if group in defaults else ""
        rows = [(choice, description(conf / group / f"{choice}.yaml")) for choice in choices]
        parts.append(f"{group}={default}\n" + _table(rows, width))
    keys = [e for e in top if e.key.partition(".")[0] != "defaults" and (e.value or e.comment)]
    parts.append("Top-level keys, with their defaults\n" + _keys_table(keys, "", width))
    parts.append("Modes\n" + _table(_MODES, width))
    note = textwrap.fill(" ".join(_SWEEPS_NOTE.split()), width)
    parts.append("Sweeps (python run.py -m ...)\n" + _table(_SWEEPS, width) + "\n" + note)
    parts.append("Examples\n" + "\n".join(f"  {command}\n      {what}" for command, what in _EXAMPLES))
    parts.append("Environment\n" + _table(_ENVIRONMENT, width))
    parts.extend(textwrap.fill(" ".join(note.split()), width) for note in _NOTES.split("\n\n"))
    return "\n\n".join(parts)


def preset_pair(preset: str, models: Sequence[str]) -> tuple[str, str]:
    """Model and data of a preset; names of both may have underscores, and the longest model counts."""
    fitting = [model for model in models if preset.startswith(f"{model}_")]
    model = max(fitting, key=len, default=preset.partition("_")[0])
    return model, preset.removeprefix(f"{model}_")


def _choice_help(group: str, choice: str, available: dict[str, list[str]], conf: Path, width: int) -> str:
    file = conf / group / f"{choice}.yaml"
    prefix = "" if group == "experiment" else f"{group}."
    rows = [e for e in entries(file) if not e.key.endswith("_target_") and (e.value or e.comment)]
    parts = [
        textwrap.fill(f"{group}={choice}: {description(file)}", width),
        "Keys, with their defaults\n" + _keys_table(rows, prefix, width) if rows else "It has no keys.",
    ]
    presets = [p for p in available.get("experiment", []) if choice in preset_pair(p, available["model"])]
    if presets and group in ("model", "data"):
        parts.append(
            textwrap.fill(f"Presets, applied by themselves for their pair: {', '.join(presets)}", width)
        )
    return "\n\n".join(parts)


def _defaults(file: Path) -> dict[str, str]:
    """The default choice of each group, from the ``- group: choice`` lines of the defaults list."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.split(" #")[0].strip()
        if text.startswith("- ") and ":" in text and "$" not in text:
            group, _, choice = text[2:].partition(":")
            found[group.strip()] = choice.strip()
    return found


def _keys_table(rows: Sequence[Entry], prefix: str, width: int) -> str:
    return _table([(f"{prefix}{e.key}" + (f"={e.value}" if e.value else ""), e.comment) for e in rows], width)


def _table(rows: Sequence[tuple[str, str]], width: int) -> str:
    """Two columns; a left part too long for its column has the text below it."""
    column = min(max((len(left) for left, _ in rows), default=0), max(width // 3, 20)) + 4
    lines = []
    for left, right in rows:
        text = textwrap.wrap(right, max(width - column, 30)) or [""]
        if len(left) + 4 > column:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left:<{column - 2}}{text.pop(0)}".rstrip())
        lines.extend(" " * column + line for line in text if line)
    return "\n".join(lines)
