"""W&B: online where a key is found, else files for ``wandb sync``; no prompt, no hang."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from harness.errors import UserError
from harness.run_folder import masked_command, note_unreached
from harness.run_log import tell
from harness.tracking.wandb_files import last_step

log = logging.getLogger("tenfold")

Mode = Literal["online", "offline", "disabled"]

# The two last are W&B's own older names.
_MODES: dict[str, Mode] = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "run": "online",
    "dryrun": "offline",
}

_ANSWER_SECONDS = 8.0  # for the server's first answer
_UPLOAD_SECONDS = 60.0  # for what is not sent yet when the run is over


class WandbTracker(WandbLogger):
    """One run on W&B; all sessions of a continued run are that one run.

    W&B's own step is the step of the rows. So a session drops rows that an earlier one has kept, on the
    server or in the run folder, and ``wandb sync`` makes one history of all offline sessions.

    Args:
        project: project on the dashboard.
        entity: user or team that owns the project; None takes the key's default.
        mode: ``auto`` does what ``WANDB_MODE`` says, else is online if a key is found, else offline. Online
            turns into offline, with a warning, where there is no key or no answer.
        tags: shown beside the run.
        log_artifacts: True keeps ``best.ckpt`` as an artifact.
        save_dir: the run folder; the files go to ``wandb/`` in it.
        name: name of the run.
        run_id: id of the run, the same for all its sessions.
        group: group of the run, such as a sweep.
        names: more tags: model and data.
    """

    goes_on: ClassVar[bool] = True
    """Drops rows of earlier sessions, see ``GuardedLogger``."""

    def __init__(
        self,
        project: str,
        entity: str | None,
        mode: Literal["auto", "online", "offline", "disabled"],
        tags: list[str],
        log_artifacts: bool,
        save_dir: str = ".",
        name: str | None = None,
        run_id: str | None = None,
        group: str | None = None,
        names: Sequence[str] = (),
    ) -> None:
        super().__init__(
            project=project,
            entity=entity,
            save_dir=save_dir,
            name=name,
            version=run_id,
            group=group,
            tags=list(dict.fromkeys([*names, *tags])),
        )
        # Lightning hands over an argument that W&B has given up, and W&B warns on the console each time
        self._wandb_init.pop("anonymous", None)
        # W&B's own look at WANDB_MODE does not count where the configuration asks for something else
        self._asked = mode if mode != "auto" else os.environ.get("WANDB_MODE", "")
        self._log_artifacts = log_artifacts
        self._step = 0  # of the newest row of this session
        self._kept = -1  # the last step of earlier sessions
        self._first_open = 0  # the lowest step that W&B still takes something for

    @classmethod
    def check(cls) -> None:
        """Refuses what W&B would only refuse in the middle of the run.

        Raises:
            UserError: if ``WANDB_MODE`` is no mode.
        """
        mode = os.environ.get("WANDB_MODE")
        if mode and mode not in _MODES:
            raise UserError(
                f"WANDB_MODE={mode}: the environment variable must be online, offline or disabled."
                " Unset it, or choose logger=csv."
            )

    @classmethod
    def preload(cls) -> None:
        """Imports what the start of a run imports: a parent that forks does it once for all its children."""
        import wandb.sdk.launch.inputs.internal  # noqa: F401

    @property
    def is_off(self) -> bool:
        """True where nothing is to be logged."""
        return _MODES.get(self._asked) == "disabled"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run; begins it when first asked for."""
        if self._experiment is None:
            self._experiment = self._begin()
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row, or pictures and tables for Lightning's other methods.

        Args:
            metrics: values by name.
            step: of the row; None takes that of the newest.
        """
        run = self.experiment
        if step is None:
            step = max(self._step, self._kept)
        elif step <= self._kept:
            return
        # what comes late for a closed step goes to the next: W&B would drop it
        self._step = self._first_open = max(step, self._first_open)
        run.log({**metrics, "step": step}, step=self._step)

    @rank_zero_only
    def save(self) -> None:
        """Closes the newest step: while W&B may still have to add to it, it is neither sent nor written."""
        if self._experiment is not None and self._first_open <= self._step:
            self._experiment.log({}, step=self._step, commit=True)
            self._first_open = self._step + 1

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the run; without it, the next run of this process would write into this one."""
        run, self._experiment = self._experiment, None
        if run is None:
            return
        import wandb

        try:
            if self._log_artifacts and status == "success":
                self._keep_best(run)
            run.finish(exit_code=int(status != "success"))
        except TimeoutError:
            log.warning(
                "W&B did not take everything within %d s; later, wandb sync %s sends the rest",
                _UPLOAD_SECONDS,
                Path(run.dir).parent,
            )
        finally:
            if wandb.run in (None, run):  # else this process has another run, which is not ours to end
                wandb.run = None  # a run whose process died stays there
                wandb.teardown()

    def _begin(self) -> Any:
        mode, warning = self._mode()
        if mode == "online":
            before = set(self._online_sessions())
            try:
                run = self._init("online")
            except Exception as error:  # no answer, a key that is refused, a project that is not theirs, ...
                import wandb

                wandb.teardown()  # else the id counts as taken
                for session in set(self._online_sessions()) - before:
                    shutil.rmtree(session, ignore_errors=True)  # nothing was logged there
                mode, warning = "offline", _reason(error)
                note_unreached(warning)
            else:
                tell(f"dashboard: {run.url}")
        if mode != "online":
            run = self._init(mode)
        if warning:
            log.warning("W&B is not reached (%s): later, wandb sync %s sends this run", warning, self._files)
        elif mode == "offline":
            log.info("W&B is offline: later, wandb sync %s sends this run", self._files)
        self._kept = run.starting_step - 1 if mode == "online" else last_step(Path(self._wandb_init["dir"]))
        self._first_open = self._kept + 1
        # other rows keep W&B's own step, which is that of the rows
        run.define_metric("epoch")
        run.define_metric("train/loss_step", step_metric="step")
        for group in ("train", "val"):
            run.define_metric(f"{group}/*", step_metric="epoch")
        return run

    def _online_sessions(self) -> Iterator[Path]:
        return (Path(self._wandb_init["dir"]) / "wandb").glob("run-*")

    @property
    def _files(self) -> Path:
        return Path(self._wandb_init["dir"]) / "wandb" / "offline-run-*"

    def _mode(self) -> tuple[Mode, str]:
        """How to log, and why it is not what was asked for."""
        import wandb

        mode = _MODES.get(self._asked, "online")
        if mode != "online":
            return mode, ""
        wandb.setup(settings=wandb.Settings(mode="online"))
        try:
            found = wandb.login(prompt=False, verify=False)
        except Exception as error:  # a key that cannot be one
            return "offline", _reason(error)
        if found:
            return "online", ""
        return "offline", "there is no key: set WANDB_API_KEY or run `wandb login`" if self._asked else ""

    def _init(self, mode: Mode) -> Any:
        import wandb

        settings = wandb.Settings(
            init_timeout=_ANSWER_SECONDS,
            finish_timeout=_UPLOAD_SECONDS,
            finish_timeout_raises=True,
            reinit="finish_previous",
            console="off",  # run.log holds what is printed
            disable_git=True,  # a remote's address may hold a password; results.json has the commit
        )
        with _masked_arguments():
            return wandb.init(**self._wandb_init, mode=mode, settings=settings)

    def _keep_best(self, run: Any) -> None:
        import wandb

        best = Path(self._wandb_init["dir"]) / "checkpoints" / "best.ckpt"
        if best.is_file():
            artifact = wandb.Artifact(f"best-{run.id}", type="model")
            artifact.add_file(str(best), policy="immutable")  # no copy: nothing writes it any more
            run.log_artifact(artifact)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@contextmanager
def _masked_arguments() -> Iterator[None]:
    """Hides secrets of the command line, which W&B keeps with the description of the machine."""
    arguments = sys.argv
    sys.argv = masked_command(arguments)
    try:
        yield
    finally:
        sys.argv = arguments
