"""What a run keeps beside its networks: averages of numbers over an epoch, and of weights over steps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import Metric


class StepAverages(Metric):
    """The averages of several numbers over the steps of an epoch, updated in one go.

    A metric for each number would cost a small model's step more than its mathematics.

    Args:
        names: what the numbers are called.
    """

    full_state_update = False
    sums: Tensor
    steps: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        # float32 is enough for an epoch, and Apple's GPUs know nothing longer
        self.add_state("sums", torch.zeros(len(self.names)), dist_reduce_fx="sum")
        self.add_state("steps", torch.zeros(len(self.names)), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Adds one step's ``values``, ``[number of names]``, without gradient; those not finite are left out.

        Under a gradient scaler some steps overflow and are skipped: their norms say nothing.
        """
        finite = values.isfinite()
        self.sums += torch.where(finite, values, 0.0)
        self.steps += finite

    def compute(self) -> dict[str, Tensor]:
        """Averages over the steps of all processes, by name; NaN where there is none."""
        return dict(zip(self.names, (self.sums / self.steps).unbind(), strict=True))


@torch.no_grad()
def average_weights(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves ``average`` towards ``network``: an exponential average over steps.

    The decay begins low, min(decay, (1 + step) / (10 + step)), so that the average does not drag the first
    weights along. Running statistics of norms are averaged as well. By hand and not with torch's
    ``AveragedModel``, which makes a GPU wait twice a step to ask whether it is the first.

    Args:
        average: of the same class and shape as ``network``.
        network: with the weights after this step.
        decay: share of the old average that stays, in [0, 1).
        step: updates before this one.
    """
    decay = min(decay, (1 + step) / (10 + step))
    old, new = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (average, network))
    floating = [name for name, value in old.items() if value.is_floating_point()]
    torch._foreach_lerp_([old[name] for name in floating], [new[name] for name in floating], 1 - decay)
    for name in old.keys() - set(floating):  # counters
        old[name].copy_(new[name])
