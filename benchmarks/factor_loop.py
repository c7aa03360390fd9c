"""FactorGCN's layer and discriminator in the textbook way: one factor after the other, three sums each.

What ``benchmarks.factorgcn`` compares with. The structure is that of the equations and of most public code:
a loop over factors, neighbours gathered and added up with ``index_add_``, the discriminator's two layers
projected before they are summed. Edge structures are made once for all factors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.factorgcn.layers import FactorDiscriminator, FactorGraphConv


def looped_step(
    layer: FactorGraphConv, discriminator: FactorDiscriminator, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The layer's output ``[n, H]`` and the discriminator's logits ``[B, K, K]``.

    Args:
        layer: whose weights are used.
        discriminator: likewise.
        batch: of a ``GraphSetDataModule``.
    """
    x, (source, target) = batch["x"], batch["edge_index"]
    graph, num_graphs = batch["batch"], len(batch["ptr"]) - 1
    degrees = torch.bincount(target, minlength=len(x)).clamp(min=1).to(x.dtype)
    norm = degrees.rsqrt()[source]
    sizes = torch.bincount(graph, minlength=num_graphs).to(x.dtype)
    h = layer.project(x)
    scores = layer.score(h)
    blocks, logits = [], []
    for k in range(layer.num_factors):
        scored = scores[:, k][source] + scores[:, layer.num_factors + k][target]
        weights = (torch.sigmoid(layer.temperature * scored) * norm).unsqueeze(1)
        blocks.append(_summed(weights, h, source, target))
        u = torch.tanh(_summed(weights, discriminator.first(h), source, target))
        v = torch.tanh(_summed(weights, discriminator.second(u), source, target))
        means = torch.zeros(num_graphs, v.size(1), dtype=v.dtype).index_add_(0, graph, v) / sizes.unsqueeze(1)
        logits.append(F.linear(torch.tanh(means), discriminator.classify.weight, discriminator.classify.bias))
    return torch.cat(blocks, dim=1), torch.stack(logits, dim=1)


def _summed(weights: Tensor, items: Tensor, source: Tensor, target: Tensor) -> Tensor:
    return torch.zeros_like(items).index_add_(0, target, weights * items[source])
