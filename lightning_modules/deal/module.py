"""DEAL and the strategies that it is compared with: training, testing, scoring and choosing in rounds."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor
from torchmetrics import MeanMetric

from harness.annotations import ClassSpec, NonNegativeFloat, PositiveFloat, PositiveInt
from harness.checkpoint_settings import class_path
from harness.errors import UserError
from harness.launch import is_first_process
from harness.run_log import tell
from lightning_modules.deal.acquisition import LevelsRange, Uncertainty
from lightning_modules.deal.class_difficulty import ClassDifficulty
from lightning_modules.deal.difficulty import DifficultyBranch, DifficultyFrom, starts_from_features
from lightning_modules.deal.looks import Looking
from lightning_modules.deal.losses import DifficultyLoss, difficulty_loss, error_mask
from lightning_modules.deal.next_images import list_by_these_weights
from lightning_modules.deal.picks import check_same_data, read_picks
from lightning_modules.deal.report import Report
from lightning_modules.deal.round_end import end_round
from lightning_modules.deal.rounds import Plan, Rounds
from lightning_modules.deal.scoring import CANDIDATES, WITH_BRANCH, Acquisition, Scored, score_images
from lightning_modules.segmentation.build import SegmenterName
from lightning_modules.segmentation.metrics import pixel_loss
from lightning_modules.segmentation.module import Batch, SegmentationModule
from lightning_modules.segmentation.networks import resize
from lightning_modules.segmentation.scenes import names_of, palette_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.segmentation import SegmentationDataModule

log = logging.getLogger("tenfold")


class Deal(SegmentationModule):
    """Difficulty-aware active learning (Xie et al., ACCV 2020, arXiv 2010.08705), and its baselines.

    Every round is a phase: the network begins anew, trains on what is labelled, is tested with the weights of
    its best validation, scores images of the pool, and the best ``step`` of them are labelled for the next
    round. Round 1 begins with the weights of the constructor, as a plain training of the same seed does. The
    last round scores all unlabelled images and lists those to annotate next, in ``next_images.csv``; what
    every round has asked for stands in ``queries.csv``.

    All acquisitions of one ``seed`` share the first labelled images; the candidates of a round follow from
    the seed, the round and what is labelled. Validation images are outside of the budget, as in the paper.
    Only ``deal_ds`` and ``deal_de`` train the difficulty branch, as in the authors' code.

    Departure: with two classes, of which the paper has no data, the branch starts from the features unless
    told otherwise, since scores of p and 1 - p cannot mark what is undecided; see
    :func:`lightning_modules.deal.difficulty.starts_from_features`.

    Args:
        num_classes: number of classes.
        network: see :data:`lightning_modules.segmentation.build.SegmenterName`.
        weights: of the backbone; None draws them.
        root: folder of data sets, where files of weights are looked for in ``weights``.
        cache: where they are downloaded to if that is read-only.
        initial: images labelled in the first round; None for all that have a mask.
        step: images that every further round adds.
        rounds: trainings.
        acquisition: by what the images are chosen, see :data:`lightning_modules.deal.scoring.Acquisition`.
        picks_from: run folder of another such run: what that one has labelled is labelled round by round, and
            only the list of the last round goes by ``acquisition``; None chooses.
        candidates: share of the unlabelled images that a round scores, above 0 and at most 1; ``auto`` is
            that of the authors.
        alpha: weight of the loss of the difficulty branch.
        difficulty_loss: ``wce`` weighs right and wrong pixels apart, ``bce`` does not.
        void_in_difficulty: void pixels count as right in it, as in the authors' code, and are not left out.
        detach_difficulty: the branch teaches the segmentation nothing.
        att_stride: pixels of the image between two points of the attention's grid.
        attention: False leaves it out.
        difficulty_from: what the branch starts from, the class ``scores`` or the ``features``; ``auto`` is
            the scores, with two classes the features.
        levels: bins of the difficulty entropy, 1 to 255.
        levels_range: what they span, each ``image``'s own range or the ``unit`` interval.
        ds_uncertainty: by what ``deal_ds`` multiplies the map; None for nothing, as in the authors' code.
        passes: dropout passes of ``qbc``.
        score_batch_size: images that are scored at a time, over all processes.
        published_curves: mIoU in percent by acquisition, at the images in its entry ``labelled``, for a
            picture; None for none.
        head_lr_factor: learning rate of all layers but the backbone, in that of the optimiser.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        scheduler_interval: how often the schedule takes a step, every ``epoch`` or every optimiser ``step``.

    Raises:
        UserError: a value cannot be.
    """

    epoch_metrics: ClassVar[tuple[str, ...]] = (
        # written out: the configuration check reads literals alone
        "train/loss",
        "train/acc",
        "train/miou",
        "val/loss",
        "val/acc",
        "val/miou",
        "train/loss_dif",
        "train/gamma",
    )
    training_only: ClassVar[tuple[str, ...]] = (
        *SegmentationModule.training_only,
        "alpha",
        "difficulty_loss",
        "void_in_difficulty",
        "detach_difficulty",
        "picks_from",
        "published_curves",
    )
    evaluation_only: ClassVar[tuple[str, ...]] = (
        "levels",
        "levels_range",
        "ds_uncertainty",
        "passes",
        "candidates",
        "step",
        "score_batch_size",
    )

    def __init__(
        self,
        num_classes: PositiveInt,
        network: SegmenterName,
        weights: str | None,
        root: str,
        cache: str,
        initial: PositiveInt | None,
        step: PositiveInt,
        rounds: PositiveInt,
        acquisition: Acquisition,
        picks_from: str | None,
        candidates: Literal["auto"] | PositiveFloat,
        alpha: NonNegativeFloat,
        difficulty_loss: DifficultyLoss,
        void_in_difficulty: bool,
        detach_difficulty: bool,
        att_stride: PositiveInt,
        attention: bool,
        difficulty_from: DifficultyFrom,
        levels: PositiveInt,
        levels_range: LevelsRange,
        ds_uncertainty: Uncertainty | None,
        passes: PositiveInt,
        score_batch_size: PositiveInt,
        published_curves: dict[str, list[float]] | None,
        head_lr_factor: PositiveFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Literal["epoch", "step"],
    ) -> None:
        if levels > 255:
            raise UserError(f"model.levels={levels} must be at most 255. DEAL takes 8.")
        share = CANDIDATES[acquisition] if candidates == "auto" else candidates
        if share > 1:
            raise UserError(
                f"model.candidates={share} must be above 0 and at most 1: a share of the unlabelled images."
                " Try model.candidates=0.5, or model.candidates=1 for all of them."
            )
        if num_classes < 2:
            raise UserError(
                f"model.num_classes={num_classes} leaves nothing to be unsure of. Set data.num_classes=2 at"
                " least, the background being a class."
            )
        super().__init__(
            num_classes,
            network,
            weights,
            root,
            cache,
            head_lr_factor,
            optimizer,
            scheduler,
            scheduler_interval,
        )
        self.save_hyperparameters()
        self.plan = Plan(initial, step, rounds)
        self.acquisition: Acquisition = acquisition
        self.picks_from = picks_from
        self.share = float(share)
        self.alpha = alpha
        self.difficulty_loss: DifficultyLoss = difficulty_loss
        self.void_in_difficulty = void_in_difficulty
        self.looking = Looking(acquisition, num_classes, levels, levels_range, ds_uncertainty, passes)
        self.score_batch_size = score_batch_size
        self.published_curves = published_curves or {}
        self.branch: DifficultyBranch | None = None
        if acquisition in WITH_BRANCH:
            own_scores = starts_from_features(difficulty_from, num_classes)
            channels = self.network.feature_channels if own_scores else None
            with torch.random.fork_rng(devices=[]):  # what follows is drawn as without a branch
                self.branch = DifficultyBranch(
                    num_classes, att_stride, attention, channels, detach_difficulty
                )
        self.dif_losses = MeanMetric(nan_strategy="disable")
        self.class_difficulty = ClassDifficulty(num_classes)
        self.rounds = Rounds()
        self.report = Report()

    @property
    def phases(self) -> tuple[str, ...]:
        return self.plan.names

    @property
    def round(self) -> int:
        """Number of the current round, from 1 on."""
        return self.phase_index + 1

    @property
    def is_last(self) -> bool:
        """Whether this is the last round."""
        return self.round == self.plan.rounds

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Labels what the rounds before have chosen, and begins anew.

        What another run has picked is read once, when the first round begins, and kept with the state.

        Raises:
            UserError: the pool is too small, not the one that the run began with, or has no masks; published
                weights or the picks of another run cannot be had.
        """
        data = scenes_of(datamodule)
        if self.picks_from is not None and not self.rounds.has_begun:
            found = read_picks(self.picks_from, class_path(type(self)), self.plan, data)
            check_same_data(self.picks_from, type(data), self.trained_on, (self.root, self.cache))
            self.rounds = found
            if is_first_process():
                tell(f"labels the images that {self.picks_from} chose by {self.rounds.picked_by}")
        self.rounds.begin(self.plan, data)
        data.set_labelled(self.rounds.labelled)
        if self.phase_index == 0:
            self._warn_of_two_classes()
            super().on_phase_start(datamodule)
        else:
            self.to("cpu")  # of whose generator the weights are drawn, wherever the last round was scored
            self.start_anew()

    def _warn_of_two_classes(self) -> None:
        blind = self.branch is not None and self.branch.own_scores is None and self.num_classes == 2
        if blind and is_first_process():
            log.warning(
                "model.difficulty_from=scores: of two classes the branch sees p and 1 - p alone, so that its"
                " map cannot mark the undecided pixels between the two. Set model.difficulty_from=features."
            )

    def start_anew(self) -> None:
        super().start_anew()
        if self.branch is not None:
            with torch.random.fork_rng(devices=[]):
                self.branch.reset_parameters()

    # --- the network and its loss

    def with_difficulty(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits ``[B, C, H, W]`` and, with the branch, logits of the difficulty map ``[B, 1, H, W]``."""
        size = (x.shape[-2], x.shape[-1])
        scores, features = self.network(x)
        difficulty = None if self.branch is None else self.branch(scores, features, size)
        return resize(scores, size), difficulty

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        logits, difficulty = self.with_difficulty(batch["x"])
        loss = pixel_loss(logits.float(), batch["y"])
        if difficulty is None:
            return loss, logits, loss
        errors = error_mask(logits.detach(), batch["y"])
        second = difficulty_loss(
            difficulty, errors, batch["y"], self.difficulty_loss, self.void_in_difficulty
        )
        self.dif_losses.update(second.detach(), len(batch["x"]))
        return loss + self.alpha * second, logits, loss

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.dif_losses.reset()

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.branch is not None:
            found = {"train/loss_dif": self.dif_losses.compute()}
            if self.branch.attention:
                found["train/gamma"] = self.branch.gamma.detach()[0]
            self.log_dict(found, logger=False, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self.class_difficulty.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        logits, difficulty = self.with_difficulty(batch["x"])
        logits = logits.float()
        self.test_scores.update(logits, batch["y"], pixel_loss(logits, batch["y"]))
        if difficulty is not None:
            self.class_difficulty.update(difficulty.float().sigmoid(), logits.argmax(dim=1), batch["y"])

    # --- the end of a round

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Tests the round's weights, scores the pool and chooses what to label next."""
        return end_round(self, trainer, scenes_of(datamodule))

    def score(
        self, trainer: Trainer, data: "SegmentationDataModule", ids: Tensor, wanted: int | None = None
    ) -> Scored:
        """Scores images of the pool with these weights; every process must call it.

        Args:
            trainer: of the run.
            data: its labelled images set.
            ids: ``[m]`` long, which, rising; m >= 1.
            wanted: how many of them will be taken in order, the best first; None for all.
        """

        def look(x: Tensor, numbers: Tensor, as_centres: bool) -> tuple[Tensor, Tensor]:
            return self.looking.look(self.network, self.branch, x, numbers, data.seed, as_centres=as_centres)

        self.eval()
        return score_images(
            self.acquisition,
            data,
            ids,
            self.round,
            look,
            trainer,
            self.score_batch_size,
            len(ids) if wanted is None else wanted,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["deal"] = {"rounds": self.rounds.state(), "report": self.report.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        content = checkpoint["deal"]
        self.rounds, self.report = Rounds.of(content["rounds"]), Report.of(content["report"])

    # --- predictions and pictures

    def on_predict_end(self) -> None:
        """Lists the images of the pool to annotate next: those without a mask, where there are any."""
        trainer: Any = self.trainer
        list_by_these_weights(self, trainer, scenes_of(trainer.datamodule))

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure":
        from harness.curves import PhaseMark, training_curves

        marks, start = [], 0
        for number, one in self.report.rounds.items():
            marks.append(PhaseMark(f"round {number}", start, test=one.miou))
            start += one.epochs
        more = (("train/loss_dif", f"Difficulty loss\n({self.difficulty_loss})"), ("train/gamma", "γ"))
        return training_curves(rows, marks, metric="miou", metric_label="Mean IoU (%)", more=more)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        from lightning_modules.deal.image_pictures import draw_difficulties, draw_next_images
        from lightning_modules.deal.pictures import draw_scores

        data = scenes_of(datamodule)
        if self.branch is None:  # with it the picture of difficulties shows as much
            yield "scenes", self._draw_scenes(data)
        yield "class_iou", self._draw_class_iou(data)
        names, palette = names_of(data, self.num_classes), palette_of(data, self.num_classes).numpy()
        chosen_by = self.rounds.picked_by or self.acquisition
        yield from self.report.figures(
            names,
            palette,
            self.published_curves,
            chosen_by,
            is_calibrated=self.difficulty_loss == "bce",
        )
        if self.branch is not None:
            yield "difficulty", draw_difficulties(self, data)
        scored = self.rounds.scored()
        if scored:
            yield "scores", draw_scores(scored, self.acquisition)
            if self.rounds.is_of(data):
                yield "next_images", draw_next_images(self, data, max(scored))


def scenes_of(datamodule: LightningDataModule) -> "SegmentationDataModule":
    """The data module as one of scenes whose labels grow.

    Raises:
        TypeError: it is of another kind, or not set up.
    """
    from datamodules.segmentation import SegmentationDataModule

    if not isinstance(datamodule, SegmentationDataModule) or not datamodule.splits:
        raise TypeError(f"{type(datamodule).__name__} has no pool of scenes: call its setup() first")
    return datamodule
