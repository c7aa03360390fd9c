"""The images that another run has labelled, round by round, read from its checkpoint."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
import yaml

from harness.checkpoint_settings import differing
from harness.checkpoints import STAMP, find_checkpoint, read_checkpoint
from harness.errors import UserError
from harness.words import counted
from lightning_modules.deal.rounds import Plan, Rounds, pool_digest
from lightning_modules.deal.scoring import Acquisition

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule

KEY = "model.picks_from"
EXAMPLE = "deal_street_scenes"  # a folder of such runs


def read_picks(given: str, kind: str, plan: Plan, data: "SegmentationDataModule") -> Rounds:
    """The state of a run before its first round that labels what another run has labelled.

    The other one may go on still, if it has chosen what this one needs.

    Args:
        given: run folder of the other run, or a checkpoint in it.
        kind: dotted path of the class that its checkpoint must be of.
        plan: of this run; its first images and its steps must be those of the other, of whose rounds it may
            have fewer.
        data: of this run, set up; its training images must be those of the other.

    Raises:
        UserError: there is no such checkpoint, or it is damaged, of another method, pool or plan, or has
            not gone far enough.
    """
    path, shown = find_checkpoint(given, KEY, EXAMPLE), f"{KEY}={given}"
    content = read_checkpoint(path, KEY)
    if content[STAMP]["class"] != kind:
        other = content[STAMP]["class"].rpartition(".")[2]
        raise UserError(
            f"{shown} is of {other}, which chooses no images. Give the folder of a run of model=deal, such as"
            f" runs/{EXAMPLE}/<time>_<id>."
        )
    try:
        their_plan, theirs, picks, picked_by = _of(content)
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{shown} is damaged: it does not say which images were labelled when. Give another run."
        ) from error
    if theirs.pool != pool_digest(data):
        raise UserError(
            f"{shown} has chosen from other training images than those of data={data.choice} here. Give this"
            " run the data of that one (config.yaml in its folder)."
        )
    _check_plan(shown, plan, their_plan)
    known = int(theirs.labelled.max())  # rounds
    if known < plan.rounds:
        raise UserError(
            f"{shown} has chosen the images of {counted(known, 'round')} so far, and model.rounds="
            f"{plan.rounds} needs those of {plan.rounds}. Go on with that run (resume=<run folder>), or set"
            f" model.rounds={known}."
        )
    plan.first_labelled(data)  # which the masks must allow
    return Rounds(
        labelled=(theirs.labelled == 1).long(),
        pool=theirs.pool,
        picks={number: picks[number] for number in range(1, plan.rounds)},
        picked_by=picked_by,
    )


def check_same_data(given: str, kind: type, here: Mapping[str, Any] | None, places: Collection[str]) -> None:
    """Refuses the picks of a run whose images are called the same and are others.

    Compared are the settings of the data, as ``mode=test`` does; those that change training alone may differ.
    A checkpoint that was taken out of its run folder says nothing of them, and its images are compared by
    their names alone.

    Args:
        given: as for :func:`read_picks`.
        kind: class of the data module of this run.
        here: the node ``data`` of this run; None where it is not known.
        places: folders of data sets and caches of this run; where files lie is no difference.

    Raises:
        UserError: there is no such checkpoint, or a setting differs.
    """
    path = find_checkpoint(given, KEY, EXAMPLE)
    if here is None:
        return
    try:
        config = yaml.safe_load((path.absolute().parents[1] / "config.yaml").read_text(encoding="utf-8"))
        there, theirs = dict(config["data"]), [*config["paths"].values()]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return
    ignored = {*getattr(kind, "training_only", ())}
    ignored |= {key for key, value in here.items() if value in places}
    ignored |= {key for key, value in there.items() if value in theirs}
    for one in differing("data", there, here):
        if one.argument not in ignored and not _is_one_place(one.saved, one.configured):
            raise UserError(
                f"{KEY}={given} has chosen from other images: {one}. Give this run the data of that one"
                " (config.yaml in its folder)."
            )


def _is_one_place(one: Any, other: Any) -> bool:
    """Whether two values name one folder, from here and from its root, say."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    try:
        first, second = (Path(each).expanduser() for each in (one, other))
        return first.is_dir() and second.is_dir() and first.samefile(second)
    except (OSError, RuntimeError):  # a name too long; a home of nobody
        return False


def _of(content: dict[str, Any]) -> tuple[Plan, Rounds, dict[int, list[int]], Acquisition]:
    """Plan, state, picks by the round that they were chosen in, and by what they were chosen."""
    settings, rounds = content["hyper_parameters"], Rounds.of(content["deal"]["rounds"])
    picks: dict[int, list[int]] = {}
    for number in range(1, int(rounds.labelled.max())):
        picks[number] = [int(one) for one in rounds.queries[number]]
        if sorted(picks[number]) != (rounds.labelled == number + 1).nonzero()[:, 0].tolist():
            raise ValueError(f"what round {number} chose is not what was labelled then")
    by: Acquisition = rounds.picked_by or settings["acquisition"]
    if by not in get_args(Acquisition) or rounds.labelled.dtype != torch.long:
        raise ValueError(f"nothing chooses by {by!r}")
    return Plan(settings["initial"], settings["step"], settings["rounds"]), rounds, picks, by


def _check_plan(shown: str, plan: Plan, theirs: Plan) -> None:
    mine = {"initial": plan.initial, "step": plan.step, "rounds": plan.rounds}
    other = {"initial": theirs.initial, "step": theirs.step, "rounds": theirs.rounds}
    # of its rounds the first ones may be enough
    wrong = [
        key for key in mine if mine[key] != other[key] and (key != "rounds" or plan.rounds > theirs.rounds)
    ]
    if wrong:
        words = {key: "null" if other[key] is None else other[key] for key in wrong}
        here = "null" if mine[wrong[0]] is None else mine[wrong[0]]
        raise UserError(
            f"{shown} does not fit: model.{wrong[0]} is {words[wrong[0]]} there and {here} here. Write"
            f" {' '.join(f'model.{key}={value}' for key, value in words.items())}."
        )
