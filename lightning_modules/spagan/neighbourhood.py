"""One node's neighbourhood cut out of the graph: who is near, and which paths it attends to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_modules.spagan.diagnostics import PathNodes, is_self_path


@dataclass(frozen=True)
class WeightedPath:
    """A kept path: ``nodes`` are places in ``Neighbourhood.node_ids``, centre first; ``weight`` in [0, 1]."""

    nodes: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Neighbourhood:
    """The part of the graph around one node that is worth drawing.

    Attributes:
        node_ids: ``[n]``, ids in the graph, the centre first, then the nodes of its kept paths, then others.
        classes: ``[n]``.
        edges: ``[m, 2]``, pairs of places in ``node_ids``, each edge once.
        paths: kept paths shown, heaviest first, self paths apart.
        self_weight: weight of the centre's self paths, all lengths together.
        hidden_paths: kept paths left out because there was no room for their nodes.
        hidden_weight: their weight. ``self_weight``, ``hidden_weight`` and all path weights sum to 1.
        hidden_nodes: nodes within C - 1 hops that are not shown.
    """

    node_ids: np.ndarray
    classes: np.ndarray
    edges: np.ndarray
    paths: tuple[WeightedPath, ...]
    self_weight: float
    hidden_paths: int
    hidden_weight: float
    hidden_nodes: int


def choose_node(
    nodes: PathNodes,
    weights: Mapping[int, Tensor],
    edge_index: Tensor,
    candidates: Tensor,
    degrees: tuple[int, int] = (4, 8),
) -> int:
    """The candidate of moderate degree which puts most weight on paths of three nodes and more.

    Args:
        nodes: kept paths per length.
        weights: per length ``[P_c]``, as ``path_weights`` gives.
        edge_index: ``[2, E]``.
        candidates: ``[N]`` bool, the test nodes for instance; at least one.
        degrees: lowest and highest degree that counts as moderate: few paths make no picture, many make
            an unreadable one. If no candidate qualifies, any degree will do.

    Returns:
        A node id; the smallest among equals.

    Raises:
        ValueError: if there is no candidate.
    """
    if not bool(candidates.any()):
        raise ValueError("choose_node needs at least one candidate, got a mask without a true entry.")
    num_nodes = candidates.numel()
    is_edge = edge_index[0] != edge_index[1]
    degree = torch.bincount(edge_index[0, is_edge], minlength=num_nodes)
    far = torch.zeros(num_nodes, dtype=torch.double, device=candidates.device)
    for c, rows in nodes.items():
        if c >= 3:
            other = ~is_self_path(rows)
            far.index_add_(0, rows[other, 0], weights[c][other].double())
    moderate = candidates & (degree >= degrees[0]) & (degree <= degrees[1])
    pool = moderate if bool(moderate.any()) else candidates
    best = far.masked_fill(~pool, -1.0)
    return int((best == best.max()).nonzero()[0])


def extract_neighbourhood(
    centre: int,
    nodes: PathNodes,
    weights: Mapping[int, Tensor],
    edge_index: Tensor,
    y: Tensor,
    max_nodes: int = 32,
) -> Neighbourhood:
    """The drawing's worth of graph around ``centre``.

    Room is given first to the nodes of kept paths, heaviest path first, then to the nearest other nodes
    (fewest hops, then smallest id) until ``max_nodes`` are taken.

    Args:
        centre: node id.
        nodes: kept paths per length.
        weights: per length ``[P_c]``, as ``path_weights`` gives.
        edge_index: ``[2, E]``, both directions.
        y: ``[N]``.
        max_nodes: limit of what stays readable.
    """
    own_paths, self_weight = _paths_of(centre, nodes, weights)
    sources, targets = edge_index.cpu().numpy()
    near = _nodes_by_hops(centre, sources, targets, hops=max(nodes, default=2) - 1)

    shown = [centre]
    kept = []
    for path, weight in own_paths:
        fresh = [node for node in path if node not in shown]
        if len(shown) + len(fresh) <= max_nodes:
            shown += fresh
            kept.append((path, weight))
    shown += [node for node in near if node not in shown][: max_nodes - len(shown)]

    place = {node: index for index, node in enumerate(shown)}
    inside = np.isin(sources, shown) & np.isin(targets, shown) & (sources != targets)
    pairs = {
        (min(place[a], place[b]), max(place[a], place[b]))
        for a, b in zip(sources[inside].tolist(), targets[inside].tolist(), strict=True)
    }
    return Neighbourhood(
        node_ids=np.array(shown),
        classes=y.cpu().numpy()[shown],
        edges=np.array(sorted(pairs), dtype=int).reshape(-1, 2),
        paths=tuple(WeightedPath(tuple(place[v] for v in path), weight) for path, weight in kept),
        self_weight=self_weight,
        hidden_paths=len(own_paths) - len(kept),
        hidden_weight=sum(weight for _, weight in own_paths) - sum(weight for _, weight in kept),
        hidden_nodes=len(set(near) - set(shown)),
    )


def _paths_of(
    centre: int, nodes: PathNodes, weights: Mapping[int, Tensor]
) -> tuple[list[tuple[list[int], float]], float]:
    """Paths of ``centre`` with their weights, heaviest first, and the weight of its self paths.

    Among equals the shorter comes first, then smaller ids.
    """
    paths: list[tuple[list[int], float]] = []
    self_weight = 0.0
    for c in sorted(nodes):
        own = nodes[c][:, 0] == centre
        for path, weight in zip(nodes[c][own].tolist(), weights[c][own].tolist(), strict=True):
            if path[-1] == centre:
                self_weight += weight
            else:
                paths.append((path, weight))
    return sorted(paths, key=lambda item: (-item[1], len(item[0]), item[0])), self_weight


def _nodes_by_hops(centre: int, sources: np.ndarray, targets: np.ndarray, hops: int) -> list[int]:
    """Nodes within ``hops`` steps of ``centre``, nearest first, then by id; the centre itself apart."""
    seen = np.array([centre])
    order: list[int] = []
    frontier = seen
    for _ in range(hops):
        frontier = np.setdiff1d(targets[np.isin(sources, frontier)], seen)
        seen = np.union1d(seen, frontier)
        order += frontier.tolist()
    return order
