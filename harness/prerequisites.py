"""What a run starts from: the trained networks under ``requires`` of its configuration.

One that is given as words is fitted once, by an ordinary run in
``<paths.runs>/prerequisites/<model>_<data>_<key>``, and serves every run whose requirement has that key (see
``harness/configuration/requirements.py``). Beside the folder lies a lock: of several runs that need the same
network, one fits it and the others wait.
"""

import functools
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock, Timeout

from harness.child_run import run_child
from harness.claims import LOCK
from harness.configuration.compose import compose
from harness.configuration.requirements import inherited_words, literal
from harness.configuration.targets import KINDS, resolve_class
from harness.errors import UserError
from harness.files import write_json, write_text
from harness.launch import from_first_process, is_first_process, launched
from harness.loading import load
from harness.results import format_value, is_share
from harness.resume import check_same
from harness.run_folder import masked_command
from harness.run_log import tell
from harness.run_state import FILE, is_finished, read_state
from harness.savepoints import read_savepoint

if TYPE_CHECKING:
    from lightning_modules.experiment import ExperimentModule

FOLDER = "prerequisites"

_HOLDER = ".fitted_by"
_LONGEST_FIT = timedelta(days=30)  # that processes of a launcher wait for the first
# where a launcher has started the processes of the run, there is but the first for what the run requires
_ONE_PROCESS = ("hardware.devices=1", "hardware.num_nodes=1", "hardware.strategy=auto")


@dataclass(frozen=True)
class Prerequisite:
    """A trained network that a run starts from.

    Attributes:
        name: its name under ``requires``.
        module: the network on the CPU, in evaluation mode, its parameters frozen.
        report: what ``results.json`` says of it.
    """

    name: str
    module: "ExperimentModule"
    report: dict[str, Any]


def planned(
    config: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The configurations of the runs that a run requires, by name; without what is given as a checkpoint.

    Args:
        config: the checked configuration of the run.
        choices: chosen option of each group.
        overrides: the words that led to ``config``.
    """
    requires: Mapping[str, Any] = config.get("requires") or {}
    inherited = inherited_words(choices, overrides)
    return {
        name: compose((*inherited, *node["words"])).config
        for name, node in requires.items()
        if "words" in node
    }


def provide(
    config: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]
) -> list[Prerequisite]:
    """Fits what the run requires and is not there yet, and loads all of it.

    Every process of a run calls it; the first alone fits.

    Args:
        config: the checked configuration of the run.
        choices: chosen option of each group.
        overrides: the words that led to ``config``.

    Raises:
        UserError: if a given checkpoint will not do, or a fit did not come to its end.
    """
    requires: Mapping[str, Any] = config.get("requires") or {}
    given = {name: node for name, node in requires.items() if "ckpt" in node}
    # first, as a mistake in them should not wait for the end of a fit
    found = {name: _given(name, node) for name, node in given.items()}
    runs = Path(config["paths"]["runs"]).expanduser()
    inherited = inherited_words(choices, overrides)
    spread = launched() is not None or config["hardware"]["num_nodes"] > 1
    fits = [
        _Fit(
            name, runs / FOLDER / node["run"], (*inherited, *node["words"], *(_ONE_PROCESS if spread else ()))
        )
        for name, node in requires.items()
        if name not in given
    ]
    # processes that Lightning has started come here once the first, which started them, is done with it
    if fits and (is_first_process() or launched() is not None):
        from_first_process(functools.partial(_make_all, fits), _LONGEST_FIT)
    found |= {fit.name: fit.result() for fit in fits}
    return [found[name] for name in requires]


def _make_all(fits: "Sequence[_Fit]") -> str:
    for fit in fits:
        fit.make()
    return ""


class _Fit:
    """One requirement that is given as words, and the folder of its run."""

    def __init__(self, name: str, folder: Path, words: tuple[str, ...]) -> None:
        self.name = name
        self.folder = folder
        self.words = words

    def make(self) -> None:
        """Makes sure that the folder holds a finished, whole run."""
        if is_finished(self.folder) and not self._damage():
            tell(f"{self.name}: reused {self._told()}")
            return
        with self._alone():
            damage = self._damage() if is_finished(self.folder) else ""
            if is_finished(self.folder) and not damage:
                tell(f"{self.name}: reused {self._told()}")
                return
            if damage:
                tell(f"{self.name}: {damage}. It is fitted anew.")
                shutil.rmtree(self.folder)
            self._fit()

    def result(self) -> Prerequisite:
        """The fitted network.

        Raises:
            UserError: if it cannot be loaded.
        """
        try:
            module = _frozen(self._best)
            metrics = _read_results(self.folder)["metrics"]
        except UserError as error:
            raise UserError(f"model.requires.{self.name}: {error}") from error
        key = self.folder.name.rpartition("_")[2]
        return Prerequisite(self.name, module, {"folder": str(self.folder), "key": key, "metrics": metrics})

    def _fit(self) -> None:
        started = time.perf_counter()
        words = self.words
        if self._can_go_on():
            tell(f"{self.name}: an unfinished fit goes on in {self.folder}")
            words = (*words, f"resume={literal(str(self.folder))}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            tell(f"{self.name}: not there yet, so it is fitted first, in {self.folder}")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / _HOLDER, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            status, why = run_child(words, self.folder, self.name)
        except BaseException:
            tell(f"{self.name}: stopped; the same command goes on with it")
            raise
        finally:
            (self.folder / _HOLDER).unlink(missing_ok=True)
        if status == 2:
            if not any((self.folder / "checkpoints").glob("*")):
                shutil.rmtree(self.folder, ignore_errors=True)  # a mistake leaves nothing behind
            raise UserError(f"model.requires.{self.name}: {why.removeprefix('error: ') or 'it was refused.'}")
        damage = f"its process ended with status {status}" if status else self._damage()
        if damage:
            raise UserError(
                f"model.requires.{self.name} could not be fitted: {why or damage}."
                f" See {self.folder / 'run.log'}; the same command goes on with it."
            )
        tell(f"{self.name}: fitted in {time.perf_counter() - started:.0f} s, {self._told()}")

    def _can_go_on(self) -> bool:
        """Whether the folder holds a run that can be continued; makes it one of this command's words."""
        if not (self.folder / FILE).is_file():
            return False
        composition = compose(self.words)
        try:
            state = read_state(self.folder)
            config = {**composition.config, "resume": str(self.folder)}
            check_same(config, self.folder)
            read_savepoint(self.folder / "checkpoints")
        except UserError as error:
            tell(f"{self.name}: an unfinished fit cannot go on and is thrown away ({error})")
            return False
        # words of where and how to compute, of another command, would be added to those of this one
        state.words = masked_command(list(self.words))
        write_json(self.folder / FILE, asdict(state))
        return True

    def _damage(self) -> str:
        """Why a finished run is of no use; empty if it is."""
        try:
            _read_results(self.folder)
            load(self._best)
        except UserError as error:
            return str(error).partition(". ")[0].rstrip(".")  # without its advice to the user
        return ""

    @property
    def _best(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"

    def _told(self) -> str:
        """The folder and its test metric, for a person."""
        return f"{self.folder}{_score(_read_results(self.folder)['metrics'])}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other runs away while this one looks after the folder."""
        path = self.folder.with_name(f"{self.folder.name}.lock")
        made = [parent for parent in path.absolute().parents if not parent.exists()]
        with suppress(OSError):  # the lock tells of it
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._claimed(path):
                if self.folder.is_dir():
                    # a process that fitted here may have outlived the one that started it
                    with self._claimed(self.folder / LOCK):
                        pass
                yield
        finally:
            if not self.folder.exists():
                with suppress(OSError):  # another run has begun in one of them
                    path.unlink()
                    for parent in made:
                        parent.rmdir()

    @contextmanager
    def _claimed(self, path: Path) -> Iterator[None]:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(f"{self.name}: waiting for {self._holder()}, which fits it in {self.folder}")
            lock.acquire(poll_interval=0.5)
        except OSError as error:  # a file in place of the folder, or no permission
            raise UserError(
                f"model.requires.{self.name}: {path} cannot be written ({error.strerror})."
                " Give another place, such as paths.runs=/tmp/runs."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _holder(self) -> str:
        try:
            return (self.folder / _HOLDER).read_text(encoding="utf-8")
        except OSError:
            return "another process"


def _given(name: str, node: Mapping[str, Any]) -> Prerequisite:
    """The network of a checkpoint that the user names.

    Raises:
        UserError: if it cannot be loaded, or is of another kind than the requirement asks for.
    """
    key, path = f"model.requires.{name}", Path(node["ckpt"])
    try:
        module = _frozen(path)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if node["model"] is not None:
        wanted = resolve_class(node["model"], KINDS["model"], key)
        if not isinstance(module, wanted):
            raise UserError(
                f"{key}={path} is of {type(module).__name__}; it must be of {wanted.__name__}."
                " Give the checkpoint of such a run, or leave it out to have one fitted."
            )
    try:
        metrics = _read_results(path.parent.parent)["metrics"]
    except UserError:  # a checkpoint that was taken out of its run folder
        metrics = {}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if is_first_process():
        tell(f"{name}: given as {path}{_score(metrics)}")
    return Prerequisite(name, module, {"ckpt": str(path), "sha256": digest, "metrics": metrics})


def _read_results(folder: Path) -> dict[str, Any]:
    """The content of a run's ``results.json``.

    Raises:
        UserError: if it cannot be read.
    """
    path = folder / "results.json"
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(value, float | int | None) for value in results["metrics"].values()):
            raise TypeError("a metric is no number")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
    return results


def _score(metrics: Mapping[str, Any]) -> str:
    """`` (test/acc 98.6 %)``; the first share, or the first number, that a test gave."""
    tests = {name: value for name, value in metrics.items() if name.startswith("test/") and value is not None}
    name = next(filter(is_share, tests), next(iter(tests), None))
    return f" ({name} {format_value(name, tests[name])})" if name else ""


def _frozen(path: Path) -> "ExperimentModule":
    """The network of a checkpoint, and what its run folder says of the data it was trained on."""
    module = load(path).requires_grad_(False)
    with suppress(OSError, ValueError, yaml.YAMLError, LookupError, TypeError):  # not in a run folder
        config = yaml.safe_load((path.absolute().parents[1] / "config.yaml").read_text(encoding="utf-8"))
        module.trained_on = dict(config["data"])
    return module
