"""What follows the training of a round: its test, the scores of the pool and what is labelled next."""

import time
from typing import TYPE_CHECKING

import torch
import torch.distributed
from pytorch_lightning import Trainer

from harness.run_log import tell
from lightning_modules.deal.acquisition import select
from lightning_modules.deal.next_images import images_to_annotate, list_next_images, write_queries
from lightning_modules.deal.report import Measured, annotated_shares, hard_shares
from lightning_modules.deal.rounds import candidates_of
from lightning_modules.segmentation.scenes import names_of

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule
    from lightning_modules.deal.module import Deal


def end_round(module: "Deal", trainer: Trainer, data: "SegmentationDataModule") -> dict[str, float]:
    """Tests the round's weights and finds what to label next; every process must call it.

    That is chosen by scores of the pool, or what another run has chosen at this place.

    Args:
        module: with the weights of the round; its report and its rounds grow.
        trainer: of the round.
        data: its labelled images set.

    Returns:
        Metrics of the round by name, and after the last round those of all that was acquired.
    """
    number = module.round
    module.to(trainer.strategy.root_device).eval()
    if trainer.world_size > 1:
        # each process has seen shares of its own: their running statistics differ
        for buffer in module.buffers():  # of the branch as well, which may start from features
            torch.distributed.broadcast(buffer, 0)
    started = time.perf_counter()
    measured = _measure(module, trainer, data)
    _spent(module, "round tests", started)
    module.report.rounds[number] = measured

    started = time.perf_counter()
    if number in module.rounds.picks:
        module.rounds.take(number)
    else:
        measured.pool_share = _choose(module, trainer, data)
        _spent(module, "scoring", started)
    write_queries(trainer, data, module.rounds)
    names = tuple(name.replace(" ", "_") for name in names_of(data, module.num_classes))
    found = measured.metrics(names)
    if trainer.is_global_zero:
        step = module.steps_before + trainer.global_step - 1
        row = {"epoch": module.epochs_before + trainer.current_epoch - 1, "phase": module.phase_index}
        for logger in trainer.loggers:
            logger.log_metrics(row | {f"al/{name}": value for name, value in found.items()}, step=step)
    result = {f"round_{number}/{name}": value for name, value in found.items()}
    if module.is_last:
        result |= hard_shares(module.rounds, data)
    return result


def _spent(module: "Deal", name: str, started: float) -> None:
    module.timings[name] = module.timings.get(name, 0.0) + time.perf_counter() - started


@torch.no_grad()
def _measure(module: "Deal", trainer: Trainer, data: "SegmentationDataModule") -> Measured:
    module.on_test_epoch_start()
    for place, batch in enumerate(data.loader("test")):
        # to the parameters' type where the precision is a true one: no loop of the trainer does it here
        on_device = trainer.precision_plugin.convert_input(
            {name: value.to(module.device) for name, value in batch.items()}
        )
        with trainer.precision_plugin.forward_context():
            module.test_step(on_device, place)
    scores = module.test_scores.compute()
    branch = module.branch
    return Measured(
        labelled=len(data.labelled_ids),
        epochs=trainer.current_epoch,
        miou=float(scores["miou"]),
        acc=float(scores["acc"]),
        iou=scores["iou"].tolist(),
        difficulty=[] if branch is None else module.class_difficulty.compute().tolist(),
        gamma=None if branch is None or not branch.attention else float(branch.gamma.detach()),
        labelled_share=annotated_shares(data, module.num_classes),
    )


def _choose(module: "Deal", trainer: Trainer, data: "SegmentationDataModule") -> list[float]:
    """Scores the pool and takes the best; shares of the classes in what was looked at, empty for none."""
    number, rounds = module.round, module.rounds
    last, step = module.is_last, module.plan.step
    ids = images_to_annotate(data) if last else candidates_of(data, number, module.share, step)
    if not len(ids):
        if trainer.is_global_zero:
            tell("all training images are labelled: there is nothing to annotate next")
        return []
    wanted = len(ids) if last else min(step, len(ids))
    scored = module.score(trainer, data, ids, wanted)
    order: list[int] = select(scored.scores, scored.ids, len(scored.ids))
    order = trainer.strategy.broadcast(order)  # whatever rounding made of equal scores elsewhere
    queries = order[:step]
    rounds.candidates[number] = torch.from_numpy(scored.ids)
    rounds.scores[number] = torch.from_numpy(scored.scores)
    rounds.queries[number] = queries
    if not last:
        rounds.add(number, queries)
    else:
        list_next_images(trainer, data, scored, order)
    shares: list[float] = scored.shares.tolist()
    return shares
