"""What FactorGCN adds to the loss of its task."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.graph_prediction.batch import Graphs


def discriminator_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of recognising each factor, averaged over the B * K pairs (FactorGCN).

    Args:
        logits: ``[B, K, K]``, row k those of factor k.

    Returns:
        A scalar, ``ln K`` at chance; exactly 0 for one factor.
    """
    return F.cross_entropy(logits.flatten(0, 1), _labels(logits))


def discriminator_accuracy(logits: Tensor) -> Tensor:
    """Share of the B * K factor graphs that are recognised; logits as in :func:`discriminator_loss`."""
    return (logits.flatten(0, 1).argmax(dim=1) == _labels(logits)).float().mean()


def _labels(logits: Tensor) -> Tensor:
    return torch.arange(logits.size(1), device=logits.device).repeat(logits.size(0))


def balance_loss(factors: Tensor, graphs: Graphs) -> Tensor:
    """How unevenly a graph's edges are shared among its factors; the authors' code computes it, unused.

    Softmax over factors of the mean weight of each graph's edges; 100 times what its entropy lacks of the
    uniform distribution's, averaged over graphs.

    Args:
        factors: ``[m, K]`` in (0, 1).
        graphs: which edges belong to which graph.

    Returns:
        A scalar, >= 0.
    """
    edges, nodes = graphs.edges, graphs.nodes
    sums = nodes.differentiable_sum(edges.differentiable_sum(factors))  # [B, K]
    counts = nodes.sum(edges.ptr.diff().to(sums.dtype).unsqueeze(1)).clamp(min=1)
    shares = (sums / counts).softmax(dim=1)
    return 100 * (math.log(factors.size(1)) + (shares * shares.log()).sum(dim=1)).mean()
