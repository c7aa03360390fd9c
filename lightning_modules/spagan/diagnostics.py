"""What SPAGAN's paths and attention say: numbers for the log, arrays for the pictures.

Throughout, ``nodes[c]`` is ``[P_c, c]``, the kept paths of c nodes, column 0 the centre, the self path
(i, ..., i) among them; ``alpha[c]`` is ``[P_c, H]``, the attention among the paths of one centre and length
(sums to 1 per centre and head); ``beta`` is ``[N, C-1, H]``, the attention among lengths 2..C (sums to 1 over
its second dimension). Every function is pure, works on the device of its input, and changes none of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PathNodes = Mapping[int, Tensor]


@dataclass(frozen=True)
class Diagnostics:
    """Everything the pictures of one set of paths need, as plain arrays; K classes, L = C - 1 lengths.

    Attributes:
        lengths: ``[L]``, nodes per path: 2..C.
        found: ``[L]``, paths before sampling, self paths apart.
        kept: ``[L]``, paths after sampling, self paths apart.
        self_paths: ``[L]``, self paths.
        costs: ``[E]``, cost of every edge, in [0, 1].
        mean_beta: ``[L, K]``, mean length attention of the nodes of a class; NaN for a class without nodes.
        self_share: per length ``[N]``, attention on the self path; NaN where it is the only path.
        entropy: per length ``[N]``, entropy of path attention over its maximum; NaN likewise.
        agreement: ``[L]``, share of kept paths that end in the centre's class; NaN without paths.
        weighted_agreement: ``[L]``, the same with every path counted by its attention.
        homophily: share of edges within a class.
        chance: share of node pairs within a class.
    """

    lengths: np.ndarray
    found: np.ndarray
    kept: np.ndarray
    self_paths: np.ndarray
    costs: np.ndarray
    mean_beta: np.ndarray
    self_share: dict[int, np.ndarray]
    entropy: dict[int, np.ndarray]
    agreement: np.ndarray
    weighted_agreement: np.ndarray
    homophily: float
    chance: float

    def scalars(self) -> dict[str, float]:
        """Plain numbers for the log, ``paths/agreement_3`` and the like; undefined ones are left out."""
        named: dict[str, float] = {"homophily": self.homophily, "chance": self.chance}
        for row, length in enumerate(self.lengths.tolist()):
            named |= {
                f"kept_{length}": float(self.kept[row]),
                f"agreement_{length}": float(self.agreement[row]),
                f"weighted_agreement_{length}": float(self.weighted_agreement[row]),
                f"self_share_{length}": _mean_of_finite(self.self_share[length]),
                f"entropy_{length}": _mean_of_finite(self.entropy[length]),
            }
        return {f"paths/{name}": value for name, value in named.items() if np.isfinite(value)}


def diagnose(
    nodes: PathNodes,
    found: Mapping[int, int],
    costs: Tensor,
    alpha: Mapping[int, Tensor],
    beta: Tensor,
    y: Tensor,
    edge_index: Tensor,
    num_classes: int,
) -> Diagnostics:
    """All diagnostics of one set of paths and the attention on them.

    Args:
        nodes: kept paths, see the module's head.
        found: number of paths of each length before sampling, self paths not counted.
        costs: ``[E]``.
        alpha: attention among paths, without dropout.
        beta: ``[N, C-1, H]``.
        y: ``[N]``, classes.
        edge_index: ``[2, E]``.
        num_classes: K.
    """
    lengths = sorted(nodes)
    kept = {c: int((~is_self_path(nodes[c])).sum()) for c in lengths}
    plain = label_agreement(nodes, y)
    weighted = label_agreement(nodes, y, path_weights(nodes, alpha, beta))
    num_nodes = y.numel()
    return Diagnostics(
        lengths=np.array(lengths),
        found=np.array([found[c] for c in lengths]),
        kept=np.array([kept[c] for c in lengths]),
        self_paths=np.array([len(nodes[c]) - kept[c] for c in lengths]),
        costs=_array(costs),
        mean_beta=_array(mean_length_attention(beta, y, num_classes)),
        self_share={c: _array(self_path_share(nodes[c], alpha[c], num_nodes)) for c in lengths},
        entropy={c: _array(path_entropy(nodes[c], alpha[c], num_nodes)) for c in lengths},
        agreement=np.array([plain[c] for c in lengths]),
        weighted_agreement=np.array([weighted[c] for c in lengths]),
        homophily=edge_homophily(edge_index, y),
        chance=chance_agreement(y),
    )


def is_self_path(rows: Tensor) -> Tensor:
    """``[P]`` bool, true for (i, ..., i). Other paths are simple, so that they never end where they begin.

    Args:
        rows: ``[P, c]``.
    """
    return rows[:, 0] == rows[:, -1]


def path_entropy(rows: Tensor, alpha: Tensor, num_nodes: int) -> Tensor:
    """``[N]``, entropy of each node's path attention divided by its maximum, the logarithm of its paths.

    0: one path takes all; 1: all paths weigh the same. Mean over heads; NaN for a node with fewer than two
    paths, whose entropy says nothing.

    Args:
        rows: ``[P, c]``, paths of one length.
        alpha: ``[P, H]``.
        num_nodes: N.
    """
    alpha = alpha.detach().double()
    total = alpha.new_zeros(num_nodes, alpha.size(1))
    total.index_add_(0, rows[:, 0], -torch.xlogy(alpha, alpha))  # [P, H] -> [N, H]
    count = torch.bincount(rows[:, 0], minlength=num_nodes)
    return (total.mean(dim=1) / count.double().log()).masked_fill(count < 2, torch.nan)


def self_path_share(rows: Tensor, alpha: Tensor, num_nodes: int) -> Tensor:
    """``[N]``, attention on the self path, mean over heads; NaN where it is the node's only path.

    Args:
        rows: ``[P, c]``, paths of one length.
        alpha: ``[P, H]``.
        num_nodes: N.
    """
    alpha = alpha.detach().double()
    own = is_self_path(rows)
    share = alpha.new_zeros(num_nodes).index_add_(0, rows[own, 0], alpha[own].mean(dim=1))
    count = torch.bincount(rows[:, 0], minlength=num_nodes)
    return share.masked_fill(count < 2, torch.nan)


def mean_length_attention(beta: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """``[C-1, K]``, length attention averaged over heads and over the nodes of a class; NaN without nodes.

    Args:
        beta: ``[N, C-1, H]``.
        y: ``[N]``.
        num_classes: K.
    """
    per_node = beta.detach().double().mean(dim=2)  # [N, C-1, H] -> [N, C-1]
    total = per_node.new_zeros(num_classes, per_node.size(1)).index_add_(0, y, per_node)
    count = torch.bincount(y, minlength=num_classes)
    return (total / count.unsqueeze(1)).T


def path_weights(nodes: PathNodes, alpha: Mapping[int, Tensor], beta: Tensor) -> dict[int, Tensor]:
    """Per length ``[P_c]``, the part a path has in its centre's new features: alpha * beta, mean over heads.

    Sums to 1 over all paths of a centre, self paths and all lengths included.
    """
    return {
        c: (alpha[c].detach().double() * beta.detach().double()[rows[:, 0], c - 2]).mean(dim=1)
        for c, rows in nodes.items()
    }


def label_agreement(
    nodes: PathNodes, y: Tensor, weights: Mapping[int, Tensor] | None = None
) -> dict[int, float]:
    """Share of kept paths whose end has the centre's class, by length, self paths apart.

    Args:
        nodes: kept paths.
        y: ``[N]``.
        weights: per length ``[P_c]``, how much a path counts; None counts all alike.

    Returns:
        Per length a share in [0, 1], NaN where there is no path (or no weight) but self paths.
    """
    shares = {}
    for c, rows in nodes.items():
        other = ~is_self_path(rows)
        same = (y[rows[other, 0]] == y[rows[other, -1]]).double()
        weight = torch.ones_like(same) if weights is None else weights[c][other].double()
        shares[c] = float((same * weight).sum() / weight.sum())
    return shares


def edge_homophily(edge_index: Tensor, y: Tensor) -> float:
    """Share of edges, self-loops apart, that join two nodes of one class; NaN without edges."""
    row, col = edge_index[:, edge_index[0] != edge_index[1]]
    return float((y[row] == y[col]).double().mean())


def chance_agreement(y: Tensor) -> float:
    """Probability that two nodes drawn independently have one class: the sum of squared class shares."""
    share = torch.bincount(y).double() / y.numel()
    return float((share * share).sum())


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.detach().cpu().numpy())


def _mean_of_finite(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
