"""Losses and metrics of what is predicted: labels, class or number of a graph; class or labels of a node."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelExactMatch, MultilabelF1Score

Target = Literal["multi_label", "class", "value", "node_class", "node_multi_label"]


def is_of_nodes(target: Target) -> bool:
    """Whether each node has a target of its own."""
    return target in ("node_class", "node_multi_label")


def is_multi_label(target: Target) -> bool:
    """Whether any number of the labels may be present at once."""
    return target in ("multi_label", "node_multi_label")


def task_loss(target: Target, predicted: Tensor, y: Tensor) -> Tensor:
    """What training minimises, a scalar.

    Binary cross-entropy averaged over labels; cross-entropy; absolute difference; or, of classes of nodes,
    cross-entropy weighted by 1 minus each class's share of the batch (benchmarking-gnns, arXiv 2003.00982).

    Args:
        target: which of the five.
        predicted: logits ``[B, C]`` or ``[n, C]``; of a number ``[B, 1]``.
        y: ``[B, C]`` or ``[n, C]`` of 0 and 1; ``[B]`` long; ``[B]`` float; ``[n]`` long.
    """
    predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
    if is_multi_label(target):
        return F.binary_cross_entropy_with_logits(predicted, y.to(predicted.dtype))
    if target == "class":
        return F.cross_entropy(predicted, y)
    if target == "value":
        return F.l1_loss(predicted.squeeze(1), y.to(predicted.dtype))
    counts = torch.bincount(y, minlength=predicted.size(1))
    weights = torch.where(counts > 0, 1 - counts / len(y), 0.0).to(predicted.dtype)
    # one class alone has weight 0, and the weighted mean 0 / 0
    weights = torch.where(weights.sum() > 0, weights, 1.0)
    return F.cross_entropy(predicted, y, weights)


def target_metrics(target: Target, split: str, num_classes: int) -> MetricCollection:
    """Metrics of a split.

    ``f1`` (micro) and ``acc`` (all labels of a graph or node right); ``acc``; ``mae``; of classes of nodes
    ``acc``, the mean of the classes' recalls.
    """
    metrics: dict[str, Any] = {}
    if is_multi_label(target):
        metrics["f1"] = MultilabelF1Score(num_classes, average="micro", validate_args=False)
        metrics["acc"] = MultilabelExactMatch(num_classes, validate_args=False)
    elif target == "value":
        metrics["mae"] = MeanAbsoluteError()
    else:
        average: Any = "micro" if target == "class" else "macro"
        metrics["acc"] = MulticlassAccuracy(num_classes, average=average, validate_args=False)
    # no look at the values, which would make a GPU wait in every step
    metrics["loss"] = MeanMetric(nan_strategy="disable")
    return MetricCollection(metrics, prefix=f"{split}/", compute_groups=False)


def in_order(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values of :func:`target_metrics`, which come by the alphabet, with what papers report first."""
    first = [name for name in metrics if name.rpartition("/")[2] in ("f1", "mae")]
    return {name: metrics[name] for name in (*first, *metrics)}


def update_metrics(
    metrics: MetricCollection,
    target: Target,
    loss: Tensor,
    predicted: Tensor,
    y: Tensor,
    logit_threshold: float = 0.0,
) -> None:
    """Adds a batch to :func:`target_metrics`.

    Args:
        metrics: of one split.
        target: what they are of.
        loss: mean over the batch, without gradient.
        predicted: as in :func:`task_loss`, without gradient.
        y: likewise.
        logit_threshold: a label is predicted where its logit is above.
    """
    for name, metric in metrics.items(keep_base=True):
        if name == "loss":
            # once per graph or node: torchmetrics ignores a weight where it does not look for NaN
            metric.update(loss.expand(len(y)))
        elif is_multi_label(target):
            # not the logits themselves: torchmetrics would guess what they are
            metric.update((predicted > logit_threshold).long(), y.long())
        elif target == "value":
            metric.update(predicted.squeeze(1).float(), y.float())
        else:
            metric.update(predicted, y)


def shown(target: Target, predicted: Tensor) -> Tensor:
    """What a prediction is shown as: probabilities of labels or classes, or the number itself."""
    predicted = predicted.float()
    if is_multi_label(target):
        return predicted.sigmoid()
    return predicted if target == "value" else predicted.softmax(dim=-1)
