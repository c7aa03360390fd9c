"""What a run prints and what it writes to ``run.log``."""

import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UserError
from harness.launch import is_first_process
from harness.run_folder import without_secrets

log = logging.getLogger("tenfold")


def tell(line: str, *, result: bool = False) -> None:
    """Prints a line of a run's progress and writes it to ``run.log``.

    Args:
        line: the text.
        result: True for the result, which goes to stdout; progress goes to stderr.
    """
    print(line, file=sys.stdout if result else sys.stderr, flush=True)
    log.info(line)


def quieten_libraries(cache: Path) -> None:
    """Keeps the libraries' tips and known warnings off the console; ``run.log`` still gets what matters."""
    for pattern in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",  # an epoch is one batch, and the steps run on across epochs
        ".*in eval mode at the start of training.*",  # on purpose: what a method freezes
        ".*LeafSpec.*",
        ".*torch.jit.script.*",
        ".*anonymous.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B would send its own crashes home
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only place, or a file; what is cached here can be made again
        cache = Path(tempfile.gettempdir()) / f"tenfold-{os.getuid()}"
    # else matplotlib and W&B write into the home directory, which a cluster may keep read-only
    for variable, name in (
        ("MPLCONFIGDIR", "matplotlib"),
        ("WANDB_CACHE_DIR", "wandb"),
        ("WANDB_CONFIG_DIR", "wandb"),
        ("WANDB_DATA_DIR", "wandb"),
    ):
        os.environ.setdefault(variable, str((cache / name).absolute()))
    # after the variables, as it imports matplotlib; before the levels, as it sets them when it is imported
    import pytorch_lightning  # noqa: F401

    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _Masking(logging.Formatter):
    """A formatter that writes ``***`` for each of ``secrets``, whoever let one slip into a message."""

    def __init__(self, form: str, secrets: Collection[str]) -> None:
        super().__init__(form)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record), self._secrets)


class _LogFile(logging.FileHandler):
    """``run.log``; a line that a full disk does not take is lost: what the run itself writes will tell."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # of lines that are still to be written
            super().close()


@contextmanager
def run_log(folder: Path, secrets: Collection[str] = ()) -> Iterator[None]:
    """Sends log records, warnings and the traceback of a crash to ``run.log`` while it is open.

    Args:
        folder: the run folder.
        secrets: texts that must not be written, nor shown with a warning.
    """
    if not is_first_process():
        yield
        return
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_Masking("%(levelname)s: %(message)s", secrets))
    console.setLevel(logging.WARNING)
    log.addHandler(console)
    handler = _LogFile(folder / "run.log", encoding="utf-8")
    handler.setFormatter(_Masking("%(asctime)s %(levelname)s %(name)s: %(message)s", secrets))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        log.removeHandler(console)  # run.py prints the traceback
        with suppress(OSError):
            log.error("the run ended with %s\n%s", type(error).__name__, traceback.format_exc())
        error.run_log = folder / "run.log"  # type: ignore[attr-defined]
        raise
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        log.removeHandler(console)
        root.setLevel(level)
        handler.close()
