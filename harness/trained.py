"""The checkpoint that ``mode=test`` and ``mode=predict`` start from, and the settings that come with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.checkpoint_settings import adopt_settings, check_class, class_path, differing, named
from harness.checkpoints import STAMP, find_checkpoint, read_checkpoint, restore
from harness.configuration.check import check_object
from harness.configuration.targets import KINDS, resolve_class
from harness.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.experiment import ExperimentModule


@dataclass(frozen=True)
class Trained:
    """A checkpoint of the configured method.

    Attributes:
        path: its file.
        content: what it holds.
        notes: what a user should know of it, one line each.
    """

    path: Path
    content: dict[str, Any]
    notes: list[str]

    def put_into(self, module: "ExperimentModule") -> None:
        """Gives ``module`` the weights and the method's state.

        Raises:
            UserError: if they do not fit, or are no numbers.
        """
        restore(module, self.content, self.path)
        broken = [name for name, value in module.named_parameters() if not value.isfinite().all()]
        if broken:
            raise UserError(
                f"{named(self.path, 'ckpt')}: {broken[0]} holds NaN or infinity: its training diverged."
                " Train it anew, with a lower model.optimizer.lr."
            )


def read_trained(config: dict[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], Trained]:
    """Reads ``config['ckpt']``, and gives ``config`` the settings that it was trained with.

    Args:
        config: the checked configuration.
        words: overrides of the command line; what they say of the model must agree with the checkpoint.

    Returns:
        The configuration of the run, and the checkpoint.

    Raises:
        UserError: if the checkpoint cannot be read, or is not of the configured method, settings and data.
    """
    path = find_checkpoint(config["ckpt"])
    content, model = read_checkpoint(path), config["model"]
    kind: Any = resolve_class(model["_target_"], KINDS["model"], "model")
    check_class(content[STAMP]["class"], class_path(kind), named(path, "ckpt"))
    node, adopted = adopt_settings(
        content, model, words, kind.training_only, path, evaluation_only=kind.evaluation_only
    )
    if adopted:
        try:
            check_object("model", node)
        except UserError as error:
            raise UserError(f"{named(path, 'ckpt')} is damaged: {error}") from error
    notes = [f"as in the checkpoint: {', '.join(one.word for one in adopted)}"] if adopted else []
    notes += [f"WARNING: {doubt}" for doubt in _data_doubts(config, path)]
    return {**config, "model": node, "ckpt": str(path)}, Trained(path, content, notes)


def _data_doubts(config: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Where the data are split or made in another way than in the run that the checkpoint lies in."""
    try:
        before = yaml.safe_load((path.absolute().parents[1] / "config.yaml").read_text(encoding="utf-8"))
        then = _placeless(before)
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return  # a checkpoint that was taken out of its run folder says nothing of its data
    now = _placeless(config)
    if then.get("_target_") != now.get("_target_"):
        return  # other data, on purpose
    kind: Any = resolve_class(str(now["_target_"]), KINDS["data"], "data")
    ignored = getattr(kind, "training_only", ())
    for one in differing("data", then, now):
        if one.argument not in ignored:
            yield (
                f"{one.key} was {one.saved} when the checkpoint was trained and is {one.configured} here:"
                f" other data, which may hold for testing what it was trained on. {one.word} gives the same"
            )


def _placeless(config: Mapping[str, Any]) -> dict[str, Any]:
    """The node ``data`` without what says where files lie."""
    places = list(config["paths"].values())
    return {key: value for key, value in config["data"].items() if value not in places}
