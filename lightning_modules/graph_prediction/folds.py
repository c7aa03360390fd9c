"""What a cross-validation keeps of its folds: each fold's weights, and its validation accuracy by epoch."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics import Metric

T = TypeVar("T")


@dataclass
class Folds:
    """The folds that are through, and the curve of the one that is trained.

    Attributes:
        weights: of each finished fold, the ``state_dict`` of its network.
        curves: of each fold that was begun, the validation accuracy after every epoch.
    """

    weights: list[dict[str, Tensor]] = field(default_factory=list)
    curves: list[list[float]] = field(default_factory=list)

    def begin(self, fold: int) -> None:
        """Makes room for a fold's curve, unless it goes on with it."""
        while len(self.curves) <= fold:
            self.curves.append([])

    def finish(self, network: nn.Module) -> None:
        """Keeps the weights of the fold that was trained."""
        self.weights.append({name: value.detach().clone() for name, value in network.state_dict().items()})

    def best_epoch(self) -> tuple[int, float, float]:
        """The epoch whose accuracy, averaged over folds, is best: its number, that mean, and the deviation.

        This is how GIN (arXiv 1810.00826) and those after it report: the epoch is chosen on the
        very folds that are reported. The deviation is that of a sample, over folds.
        """
        means = [statistics.fmean(values) for values in zip(*self.curves, strict=True)]
        epoch = max(range(len(means)), key=means.__getitem__)
        values = [curve[epoch] for curve in self.curves]
        return epoch, means[epoch], statistics.stdev(values) if len(values) > 1 else 0.0

    def predict(self, network: nn.Module, inputs: Any, fold_of_graph: Tensor) -> Tensor:
        """Predictions ``[B, C]`` of graphs, each by the network that was trained without it.

        Args:
            network: evaluated with each fold's weights in turn; its own are left alone.
            inputs: the batch's graphs.
            fold_of_graph: ``[B]`` long.
        """
        out: Tensor | None = None
        for fold, weights in enumerate(self.weights):
            here = {name: value.to(fold_of_graph.device) for name, value in weights.items()}
            predicted: Tensor = functional_call(network, here, (inputs,))[0]
            mine = (fold_of_graph == fold).unsqueeze(1)
            out = predicted * mine if out is None else torch.where(mine, predicted, out)
        assert out is not None, "no fold is through"
        return out

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"weights": list(self.weights), "curves": [list(curve) for curve in self.curves]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Folds":
        """From what :meth:`state` gave.

        Raises:
            ValueError: it cannot have come from there.
        """
        weights, curves = state.get("weights"), state.get("curves")
        if not _is_list_of(weights, dict) or not _is_list_of(curves, list):
            raise ValueError("the checkpoint's folds are damaged")
        if not all(isinstance(value, Tensor) for one in weights for value in one.values()):
            raise ValueError("the checkpoint's folds hold something else than weights")
        return cls([dict(one) for one in weights], [[float(value) for value in curve] for curve in curves])


def _is_list_of(value: Any, kind: type[T]) -> TypeGuard[list[T]]:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


class FoldAccuracy(Metric):
    """Accuracy of each fold, and its mean and deviation over folds.

    Args:
        folds: how many.
    """

    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self, folds: int) -> None:
        super().__init__()
        self.add_state("right", torch.zeros(folds), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(folds), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, y: Tensor, fold: Tensor) -> None:
        """Adds graphs: logits ``[B, C]``, classes ``[B]`` and folds ``[B]``."""
        hit = (predicted.argmax(dim=1) == y).to(self.right.dtype)
        self.right.index_add_(0, fold, hit)
        self.total.index_add_(0, fold, torch.ones_like(hit))

    def compute(self) -> dict[str, Tensor]:
        """``acc`` and ``acc_std``; the deviation is that of a sample."""
        each = self.right / self.total.clamp(min=1)
        return {"acc": each.mean(), "acc_std": each.std()}
