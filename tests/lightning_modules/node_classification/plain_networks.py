"""The networks as formulas: plain loops that take parameters, settings and dropout masks as arguments.

``benchmarks.naive_spagan`` reads its settings from the layers; these do not, so a setting or a mask that a
layer puts to no use or to a wrong one shows as a difference.
"""

from collections.abc import Iterator, Mapping
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor

Parameters = Mapping[str, Tensor]
Masks = Iterator[Tensor | None]


def no_masks() -> Masks:
    """The masks of evaluation."""
    return repeat(None)


def part(parameters: Parameters, name: str) -> dict[str, Tensor]:
    """Those of one layer, without its name."""
    return {
        key.removeprefix(f"{name}."): value for key, value in parameters.items() if key.startswith(f"{name}.")
    }


def with_self_loops(edge_index: Tensor, num_nodes: int) -> Tensor:
    """``[2, E + N]``, sorted by (centre, neighbour)."""
    rows = torch.cat([edge_index.t(), torch.arange(num_nodes).unsqueeze(1).expand(-1, 2)]).tolist()
    return torch.tensor(sorted(rows)).t()


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` times a mask of its own shape, or of one for its non-zeros row by row."""
    if mask is None or mask.shape == x.shape:
        return x if mask is None else x * mask
    out = x.clone()
    out[x != 0] *= mask
    return out


def attend(
    centres: Tensor,
    items: Tensor,
    centre_scores: Tensor,
    item_scores: Tensor,
    values: Tensor,
    slope: float,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """``[N, H, D]`` and the softmax over each centre's rows, ``[R, H]``, on which ``mask`` falls."""
    alpha = values.new_zeros(len(centres), values.size(1))
    out = []
    for i in range(len(centre_scores)):
        rows = centres == i
        alpha[rows] = F.leaky_relu(centre_scores[i] + item_scores[items[rows]], slope).softmax(0)
        share = alpha[rows] if mask is None else alpha[rows] * mask[rows]
        out.append((share.unsqueeze(2) * values[items[rows]]).sum(0))
    return torch.stack(out), alpha


def dots(x: Tensor, vectors: Tensor) -> Tensor:
    """``[N, H, D], [H, D] -> [N, H]``."""
    return (x * vectors).sum(2)


def project(layer: Parameters, x: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """``drop(x) W + b``, ``[N, H, D]``."""
    return (masked(x, mask) @ layer["weight"] + layer["bias"]).view(len(x), heads, -1)


def node_attention(
    layer: Parameters, x: Tensor, edge_index: Tensor, slope: float, masks: Masks
) -> tuple[Tensor, Tensor]:
    """GAT's layer and its attention per row of the edges with self-loops."""
    h = project(layer, x, len(layer["attention"]), next(masks))
    of_centre, of_neighbour = layer["attention"].chunk(2, dim=1)
    edges = with_self_loops(edge_index, len(x))
    return attend(*edges, dots(h, of_centre), dots(h, of_neighbour), h, slope, next(masks))


def path_attention(
    layer: Parameters, x: Tensor, paths: Mapping[int, Tensor], slope: float, path_pool: str, masks: Masks
) -> Tensor:
    """SPAGAN's layer, ``[N, H, D]``: the plain mean over lengths where it has no vector for them."""
    p = project(layer, x, layer["attention"].size(1), next(masks))
    lengths = []
    for c, nodes in paths.items():
        on_path, on_centre = layer["attention"][c - 2].chunk(2, dim=1)
        walked = p[nodes[:, 1:]]  # [P, c - 1, H, D]
        pooled = walked.amax(1) if path_pool == "max" else walked.mean(1)
        rows = torch.arange(len(nodes))
        scores = dots(p, on_centre), dots(pooled, on_path)
        lengths.append(attend(nodes[:, 0], rows, *scores, pooled, slope, next(masks))[0])
    if "length_attention" not in layer:
        return torch.stack(lengths).mean(0)
    on_length, on_centre = layer["length_attention"].chunk(2, dim=1)
    scores = torch.stack([dots(length, on_length) + dots(p, on_centre) for length in lengths])
    beta = F.leaky_relu(scores, slope).softmax(0)
    return (beta.unsqueeze(3) * torch.stack(lengths)).sum(0)


def attention_output(
    layer: Parameters, hidden: Tensor, edge_index: Tensor, slope: float, masks: Masks
) -> Tensor:
    """Logits ``[N, K]``: the heads' mean."""
    return node_attention(layer, hidden, edge_index, slope, masks)[0].mean(1)


def log_probabilities(logits: Tensor, elu_before_softmax: bool) -> Tensor:
    return (F.elu(logits) if elu_before_softmax else logits).log_softmax(1)


def mlp(parameters: Parameters, x: Tensor, masks: Masks) -> Tensor:
    """``log_softmax(drop(relu(drop(X) W0 + b0)) W1 + b1)``."""
    first, second = part(parameters, "hidden"), part(parameters, "output")
    hidden = F.relu(masked(x, next(masks)) @ first["weight"] + first["bias"])
    return (masked(hidden, next(masks)) @ second["weight"] + second["bias"]).log_softmax(1)


def gcn(parameters: Parameters, x: Tensor, edge_index: Tensor, masks: Masks) -> Tensor:
    """``log_softmax(A drop(relu(A drop(X) W0 + b0)) W1 + b1)``, ``A = D^-1/2 (A + I) D^-1/2`` as a matrix."""
    first, second = part(parameters, "hidden"), part(parameters, "output")
    matrix = torch.eye(len(x), dtype=x.dtype)
    matrix[edge_index[0], edge_index[1]] = 1
    scale = matrix.sum(1).rsqrt()
    matrix = scale.unsqueeze(1) * matrix * scale
    hidden = F.relu(matrix @ masked(x, next(masks)) @ first["weight"] + first["bias"])
    return (matrix @ masked(hidden, next(masks)) @ second["weight"] + second["bias"]).log_softmax(1)


def gat(
    parameters: Parameters,
    x: Tensor,
    edge_index: Tensor,
    masks: Masks,
    negative_slope: float = 0.2,
    elu_before_softmax: bool = True,
) -> Tensor:
    hidden, _ = node_attention(part(parameters, "hidden"), x, edge_index, negative_slope, masks)
    output = part(parameters, "output")
    logits = attention_output(output, F.elu(hidden.flatten(1)), edge_index, negative_slope, masks)
    return log_probabilities(logits, elu_before_softmax)


def spagan(
    parameters: Parameters,
    x: Tensor,
    edge_index: Tensor,
    paths: Mapping[int, Tensor],
    masks: Masks,
    negative_slope: float = 0.2,
    elu_before_softmax: bool = True,
    path_pool: str = "max",
) -> Tensor:
    """The path network; a linear classifier where its output layer has no attention vectors."""
    hidden = path_attention(part(parameters, "hidden"), x, paths, negative_slope, path_pool, masks)
    hidden, output = F.elu(hidden.flatten(1)), part(parameters, "output")
    if "attention" in output:
        logits = attention_output(output, hidden, edge_index, negative_slope, masks)
    else:
        logits = masked(hidden, next(masks)) @ output["weight"] + output["bias"]
    return log_probabilities(logits, elu_before_softmax)
