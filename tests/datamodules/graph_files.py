"""Small sets of graphs as files, in the forms that the data modules read."""

import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.graph_sets import GraphSet, make_graph_set


def zipped(members: dict[str, bytes]) -> bytes:
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def lines(rows: Sequence[Any]) -> bytes:
    """One row a line, numbers with commas between them."""
    return "".join(", ".join(map(str, np.atleast_1d(row))) + "\n" for row in rows).encode()


def random_edges(sizes: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Both directions of random edges within each graph, in any order, numbered over all graphs."""
    generator = np.random.default_rng(seed)
    pairs = []
    first = 0
    for size in sizes:
        upper = np.stack(np.triu_indices(size, 1))
        upper = upper[:, generator.random(upper.shape[1]) < 0.4] + first
        pairs.append(np.concatenate([upper, upper[::-1]], axis=1))
        first += size
    edges = np.concatenate(pairs, axis=1)
    source, target = edges[:, generator.permutation(edges.shape[1])]
    return source, target


def graph_set(
    sizes: Sequence[int] = (4, 1, 6, 3, 5), *, self_loops: bool = True, of_nodes: bool = False, seed: int = 0
) -> GraphSet:
    """Random graphs with node types, two factors and a number each as target."""
    source, target = random_edges(sizes, seed)
    num_nodes = sum(sizes)
    # a factor of both directions
    factor = (source + target) % 3
    x = torch.arange(num_nodes) % 7
    y: Tensor = torch.arange(num_nodes) % 2 if of_nodes else torch.arange(len(sizes)) * 10
    factors = factor[:, None] == np.arange(2)
    return make_graph_set(x, np.array(sizes), source, target, y, factors, self_loops=self_loops)


def write_mutag(root: Path) -> None:
    """A generated ``TU/MUTAG.zip`` below ``root``: rings in one class, stars in the other, 188 graphs."""
    generator = np.random.default_rng(0)
    edges, nodes, labels = [], [], []
    for graph in range(188):
        size, first = int(generator.integers(5, 9)), len(nodes)
        ring = graph % 3 > 0  # two of three, as in the real set
        pairs = [(i, (i + 1) % size) for i in range(size)] if ring else [(0, i) for i in range(1, size)]
        edges += [(first + a + 1, first + b + 1) for pair in pairs for a, b in (pair, pair[::-1])]
        nodes += [(graph + 1, int(generator.integers(7))) for _ in range(size)]
        labels.append(1 if ring else -1)
    nodes[:7] = [(graph, label) for label, (graph, _) in enumerate(nodes[:7])]  # every label occurs
    members = {
        "A": lines(edges),
        "graph_indicator": lines([graph for graph, _ in nodes]),
        "graph_labels": lines(labels),
        "node_labels": lines([label for _, label in nodes]),
    }
    path = root / "TU" / "MUTAG.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped({f"MUTAG/MUTAG_{name}.txt": content for name, content in members.items()}))
