"""What every training of two networks against each other shares: their optimisers, clipping and schedules."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.annotations import ClassSpec
from lightning_modules.experiment import ExperimentModule
from lightning_modules.optimizers import build_optimizer, build_scheduler
from lightning_modules.osgan.speed import StepClock


class TwoPlayers(ExperimentModule):
    """A module that steps the optimisers of two players itself, each with a learning rate of its own.

    Where both players take their step together they share one optimiser of two parameter groups, which is the
    same as two. Under a gradient scaler it has to be so: Lightning changes the scale after each optimiser's
    step, and a second one would unscale by another factor than was applied.

    Call :meth:`set_players` in the constructor.
    """

    wants_norms: ClassVar[bool] = False
    """Whether :meth:`note_gradient_norm` is to hear of every update, which costs a look at all gradients."""

    def set_players(
        self, lrs: dict[str, float], together: bool, optimizer: ClassSpec, scheduler: ClassSpec | None
    ) -> None:
        """Says who plays.

        Args:
            lrs: learning rate of each player, in the order of their optimisers.
            together: True where every update is one of both.
            optimizer: ``{name: class of torch.optim, **keywords}`` without ``lr``.
            scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or
                None.
        """
        self.automatic_optimization = False
        self.lrs = dict(lrs)
        self.together = together
        self._clock = StepClock()
        self._optimizer_spec = optimizer
        self._scheduler_spec = scheduler

    @abstractmethod
    def player(self, name: str) -> nn.Module:
        """The network of a player."""

    def note_gradient_norm(self, player: str, norm: Tensor) -> None:
        """Hears of the norm of a player's gradients before they are clipped."""

    def clear(self, *players: str) -> None:
        """Removes the gradients of ``players``."""
        for name in players:
            for parameter in self.player(name).parameters():
                parameter.grad = None

    def update(self, *players: str) -> None:
        """One optimiser step for ``players``: all of them where they step together, else one."""
        optimizers: Any = self.optimizers()
        if self.together:
            assert set(players) == set(self.lrs)
            optimizers.step()
        else:
            (name,) = players
            optimizers[list(self.lrs).index(name)].step()

    def step_schedules(self) -> None:
        """One step of every schedule; called at the end of an epoch."""
        if self._scheduler_spec is not None:
            schedulers: Any = self.lr_schedulers()
            for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
                scheduler.step()

    def log_loss_scale(self) -> None:
        """Logs the factor of a gradient scaler, where there is one; called at the end of an epoch."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            scale = torch.tensor(scaler.get_scale(), device=self.device)
            self.log("train/loss_scale", scale, logger=False, sync_dist=True)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._clock.begin()

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Tensor], batch_idx: int) -> None:
        images = len(next(iter(batch.values()))) * self.trainer.world_size
        self._clock.end(images, batch_idx + 1 == self.trainer.num_training_batches, self.device)
        self.timings |= self._clock.timings

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # each player by itself: a large gradient of one must not shrink the other's
        if self.gradient_clip_val is None and not self.wants_norms:
            return
        for group in optimizer.param_groups:
            norm = nn.utils.get_total_norm([p.grad for p in group["params"] if p.grad is not None])
            self.note_gradient_norm(group["player"], norm)
            if self.gradient_clip_val is None:
                continue
            if self.gradient_clip_algorithm == "value":
                nn.utils.clip_grad_value_(group["params"], self.gradient_clip_val)
            else:
                nn.utils.clip_grads_with_norm_(group["params"], self.gradient_clip_val, norm)

    def configure_optimizers(self) -> Any:
        groups: list[dict[str, Any]] = [
            {"params": list(self.player(name).parameters()), "lr": lr, "player": name}
            for name, lr in self.lrs.items()
        ]
        shares = [groups] if self.together else [[group] for group in groups]
        optimizers = [build_optimizer(share, self._optimizer_spec) for share in shares]
        if self._scheduler_spec is None:
            return optimizers
        length = self.planned_epochs
        return optimizers, [
            build_scheduler(optimizer, self._scheduler_spec, length) for optimizer in optimizers
        ]
