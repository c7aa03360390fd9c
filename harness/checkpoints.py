"""Checkpoints: what they say of themselves, and how one is read and put into a module, safely."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint_settings import check_class, check_settings, class_path, named
from harness.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.experiment import ExperimentModule

STAMP = "tenfold"
"""Key of a checkpoint under which it says what it is; see :func:`stamp`."""

FORMAT = 1
"""Version of what a checkpoint holds beside Lightning's own keys; one more with each change that old code
cannot read."""

_ZIP = b"PK\x03\x04"  # how a checkpoint file begins

_DEEPEST = 8  # levels of a setting

_OLDER = {
    0: "it does not say which method and settings it is of. Train it again: config.yaml of its run folder has"
    " the settings",
}
"""By format: why it is not read any more, and what to do."""

_RUNS = "spagan_cora"
_TO_GIVE = "Give a run folder, such as runs/{runs}/<time>_<id>, or the best.ckpt in it."
_FIX = _TO_GIVE.format(runs=_RUNS)


def stamp(module: "ExperimentModule") -> dict[str, Any]:
    """What ``on_save_checkpoint`` writes under :data:`STAMP`.

    Returns:
        ``format``; ``version`` of Tenfold; ``class``, the dotted path of the module's; ``phase_index`` of the
        phase that it is in or has ended.
    """
    return {
        "format": FORMAT,
        "version": _own_version(),
        "class": class_path(type(module)),
        "phase_index": module.phase_index,
    }


def find_checkpoint(given: str | Path, key: str = "ckpt", runs: str = _RUNS) -> Path:
    """The file that a user means: ``given`` itself, or ``checkpoints/best.ckpt`` of a run folder.

    Nothing heavy is imported and nothing is read.

    Args:
        given: path of a checkpoint, a run folder or its ``checkpoints`` folder; ``~`` is the home directory.
        key: the configuration key that holds it, for messages; ``""`` outside of a configuration.
        runs: name of a folder of runs that would do, for messages.

    Raises:
        UserError: if it is an address, or there is no such file.
    """
    shown, fix = named(given, key), _TO_GIVE.format(runs=runs)
    if "://" in str(given):
        raise UserError(f"{shown} is an address; only files are read. Fetch it first. {fix}")
    try:
        path = Path(given).expanduser()
        if path.is_dir():
            return _best_of(path, shown, key, fix)
        if path.is_file():
            return path
        there = "it is no regular file" if path.exists() else "there is no such file"
    except (OSError, RuntimeError) as error:  # no permission, a name too long; a home of nobody
        there = getattr(error, "strerror", None) or str(error).rstrip(".")
    raise UserError(f"{shown}: {there}. {fix}")


def _best_of(folder: Path, shown: str, key: str, fix: str) -> Path:
    for path in (folder / "checkpoints" / "best.ckpt", folder / "best.ckpt"):
        if path.is_file():
            return path
    runs = sorted(folder.glob("*/checkpoints/best.ckpt"))
    if runs:
        newest = named(runs[-1].parents[1], key or "ckpt")
        raise UserError(f"{shown} is a folder of runs. The newest of them: {newest}")
    if (folder / "checkpoints" / "last.ckpt").is_file():
        raise UserError(
            f"{shown}: no phase of this run came to its end. Go on with it: python run.py resume={folder}"
        )
    raise UserError(f"{shown} is a folder without checkpoints/best.ckpt. {fix}")


def load_checkpoint(module: "ExperimentModule", path: Path, key: str = "ckpt") -> None:
    """Puts the weights and the method's state of ``path`` into ``module``.

    Only plain data is read (``weights_only=True``): a checkpoint cannot run code.

    Args:
        module: built from the configuration of the run.
        path: a ``best.ckpt`` or ``last.ckpt`` of the same method and the same network settings, or its run
            folder.
        key: the configuration key that holds ``path``, for messages; ``""`` outside of a configuration.

    Raises:
        UserError: if the file is missing, broken, not plain data, of another method, of other settings, or of
            an unfinished run.
    """
    restore(module, read_checkpoint(path, key), path, key)


def read_checkpoint(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """The content of a checkpoint that a run of this version has written, plain data only.

    Args:
        path: the file, or its run folder.
        key: the configuration key that holds ``path``, for messages; ``""`` outside of a configuration.

    Returns:
        Lightning's checkpoint with the weights on the CPU, a whole :func:`stamp` under :data:`STAMP`, and the
        constructor's arguments under ``hyper_parameters``: plain values.

    Raises:
        UserError: if the file is missing, damaged, no checkpoint of this project or of another format, or
            holds more than plain data.
    """
    found, shown = find_checkpoint(path, key), named(path, key)
    content = _read_plain_data(found, shown)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{shown} is no checkpoint of this project: it has no state_dict. {_FIX}")
    _check_stamp(content, shown)
    settings = content.setdefault("hyper_parameters", {})
    if not isinstance(settings, dict) or not _is_setting(settings):
        raise UserError(f"{shown} is damaged: its settings (hyper_parameters) are no plain values. {_FIX}")
    return content


def restore(module: "ExperimentModule", checkpoint: Mapping[str, Any], path: Path, key: str = "ckpt") -> None:
    """Puts a checkpoint that :func:`read_checkpoint` gave into ``module``.

    Args:
        module: built from the settings that the checkpoint was trained with.
        checkpoint: its content.
        path: where it was read from.
        key: the configuration key that holds ``path``, for messages; ``""`` outside of a configuration.

    Raises:
        UserError: if it is of another method, of other settings, or of an unfinished run.
    """
    shown = named(path, key)
    check_class(checkpoint[STAMP]["class"], class_path(type(module)), shown)
    free = (*module.training_only, *module.evaluation_only)
    check_settings(checkpoint, dict(module.hparams), free, path, key)
    _check_finished(checkpoint, module, shown)
    try:
        module.on_load_checkpoint(dict(checkpoint))
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, LookupError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()
        missing = f"it has no {error}" if isinstance(error, KeyError) else ""
        raise UserError(
            f"{shown} does not fit the configured model:"
            f" {missing or (reason[-1].strip() if reason else type(error).__name__).rstrip('.')}."
            " It was changed, or written by another version of the method. Train it again."
        ) from error


def verify_archive(path: Path) -> None:
    """Compares every part of a checkpoint file with the checksum in it; torch itself does not.

    Raises:
        ValueError: if the file is truncated or altered, or packed as torch never packs one: compressed, or
            with parts that share their bytes, either of which can unfold to more than memory holds.
    """
    flaw = _flaw(path)
    if flaw:
        raise ValueError(f"{path} is damaged: {flaw}.")


def _flaw(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if not all(map(_is_plain, parts)):
                return "it is not packed as torch packs a checkpoint"
            if sum(part.file_size for part in parts) > path.stat().st_size:
                return "its parts overlap"
            altered = archive.testzip()
    except zipfile.BadZipFile as error:
        truncated = str(error) == "File is not a zip file"
        return "its end is missing, as after a broken copy or on a full disk" if truncated else str(error)
    except Exception as error:  # zipfile lets zlib.error, RuntimeError, NotImplementedError and more out
        return str(error).rstrip(".") or type(error).__name__
    return f"{altered} does not have its checksum" if altered else None


def _is_plain(part: zipfile.ZipInfo) -> bool:
    # One of the attributes makes torch take the part for a folder and give, silently, a tensor of whatever
    # the memory held before.
    stored = part.compress_type == zipfile.ZIP_STORED and part.compress_size == part.file_size
    return stored and part.external_attr == 0 and not part.is_dir()


def _read_plain_data(path: Path, shown: str) -> Any:
    import torch

    try:
        with path.open("rb") as file:
            start = file.read(len(_ZIP))
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}. {_FIX}") from error
    if not start:
        raise UserError(f"{shown} is damaged: it is empty. {_FIX}")
    flaw = (
        _flaw(path) if start == _ZIP else None
    )  # torch's older format goes to torch, to name what it blocks
    if flaw:
        raise UserError(f"{shown} is damaged or no checkpoint ({flaw}). {_FIX}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript and sparse tensors; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader lets anything out, from IndexError to struct.error
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and blocked:
            raise UserError(
                f"{shown} was not loaded: it holds more than plain data ({blocked[1]}), which could"
                " run code. There is no unsafe fallback; save its state_dict alone where you trust it."
            ) from error
        raise UserError(f"{shown} is damaged or no checkpoint ({_reason(error)}). {_FIX}") from error


def _reason(error: Exception) -> str:
    """The first line of what torch says, without the advice that it wraps around it."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    first = text.partition("\n")[0].strip().rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _check_stamp(content: Mapping[str, Any], shown: str) -> None:
    own = content.get(STAMP)
    if STAMP not in content and "phase_index" in content:
        own = {"format": 0, "version": "an earlier Tenfold", "class": "", "phase_index": 0}
    elif STAMP not in content:
        writer = "plain Lightning" if "pytorch-lightning_version" in content else "another program"
        raise UserError(
            f"{shown} is a checkpoint of {writer}, not of this project: it does not say which method it is"
            f" of. {_FIX} Weights alone are taken over in Python, with load_state_dict."
        )
    kinds = {"format": int, "version": str, "class": str, "phase_index": int}
    if not isinstance(own, Mapping) or any(type(own.get(name)) is not kind for name, kind in kinds.items()):
        raise UserError(f"{shown} is damaged: what it says of itself ('{STAMP}') cannot be read. {_FIX}")
    if own["format"] > FORMAT:
        raise UserError(
            f"{shown} has format {own['format']}, written by Tenfold {own['version']}; this is Tenfold"
            f" {_own_version()}, which reads format {FORMAT}. Update Tenfold to read it."
        )
    if own["format"] < FORMAT:
        why = _OLDER.get(own["format"], "there was no such format")
        raise UserError(f"{shown} has format {own['format']} of {own['version']}: {why}.")


def _is_setting(value: Any, depth: int = 0) -> bool:
    if depth > _DEEPEST:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_setting(inner, depth + 1) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(_is_setting(inner, depth + 1) for inner in value)
    return value is None or type(value) in (bool, int, float, str)


def _check_finished(checkpoint: Mapping[str, Any], module: "ExperimentModule", shown: str) -> None:
    done, phases = checkpoint[STAMP]["phase_index"] + 1, len(module.phases)
    savepoint = checkpoint.get("savepoint")
    amid = isinstance(savepoint, Mapping) and savepoint.get("stage") in ("epoch", "batch")
    if done == phases and not amid:
        return
    where = (
        f"it is from the midst of phase {done} of {phases}"
        if amid
        else f"phase {done} of {phases} was its last"
    )
    raise UserError(
        f"{shown} is of an unfinished run: {where}."
        " Go on with that run (resume=<run folder>), or give a checkpoint of one that came to its end."
    )


def _own_version() -> str:
    try:
        return metadata.version("tenfold")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
