"""Time single operations as the project does them against the obvious ones in torch.

    python -m benchmarks.operations --data <folder of data sets>

Sizes are Cora's: 2,708 nodes, 13,264 rows of edges and self-loops, 8 heads of 8 channels, 7 classes. What a
training step differentiates is timed forward and backward, under the dropout of the published setting. Both
forms of a row must first give the same numbers and gradients, with dropout off, as their draws differ.

Figures are CPU time of one thread: medians over rounds in which the two forms take turns. The ratio is their
time over ours, and its quartiles say how far it can be trusted.
"""

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from benchmarks.report import Table, add_arguments, graph_datamodule, write_report
from benchmarks.training_step import spagan_network, untrained_paths, without_compiled_loops
from datamodules.graph import SPARSE_BELOW, undirected_edge_index
from lightning_modules.node_classification.attention import _per_head_dot, attention_sum
from lightning_modules.node_classification.dense import (
    class_log_probabilities,
    dropout_mask,
    elu,
    narrow_matmul,
)
from lightning_modules.node_classification.graph import prepare
from lightning_modules.node_classification.sparse import SparseFeatures, dropped_matmul
from lightning_modules.segments import SegmentIndex
from lightning_modules.spagan.layers import PathIndex
from lightning_modules.spagan.path_pooling import pool_paths

HEADS, WIDTH, CLASSES, DROPOUT, SLOPE = 8, 8, 7, 0.6, 0.2
DENSITIES = (0.013, 0.1, 0.2, 0.35, SPARSE_BELOW, 0.5)  # Cora's, PubMed's, between, Photo's, our bound, above
SAMPLE_SECONDS = 0.002  # a short operation is repeated this long, far above what reading the clock takes

Form = Callable[[float], Tensor | tuple[Tensor, ...]]


class Operation(NamedTuple):
    """An operation as the project does it and as torch offers it; each form takes the dropout probability."""

    name: str
    reference: str
    ours: Form
    theirs: Form
    around_theirs: Callable[[], AbstractContextManager[None]] = nullcontext


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> Form:
    """``function(p, *inputs)`` forward and backward: its result and the gradients of the inputs."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    out = function(0.0, *leaves)
    grad = torch.linspace(-1, 1, out.numel()).view_as(out)

    def form(p: float) -> tuple[Tensor, ...]:
        out = function(p, *leaves)
        return out, *torch.autograd.grad(out, leaves, grad)

    return form


def reductions(edges: SegmentIndex) -> list[Operation]:
    """Sums over the rows of each centre, and over the channels of each head."""
    centre, item = edges.row.long(), edges.items(torch.arange(edges.num_items))
    rows, weights = torch.randn(2, edges.num_rows, HEADS)
    x = torch.randn(edges.num_items, HEADS, WIDTH)
    a, b = torch.randn(2, edges.num_rows, HEADS, WIDTH)

    def index_add(values: Tensor) -> Tensor:
        return values.new_zeros(edges.num_groups, *values.shape[1:]).index_add_(0, centre, values)

    return [
        Operation("sum of sorted rows", "index_add_", lambda _: edges.sum(rows), lambda _: index_add(rows)),
        Operation(
            "weighted sum of neighbours",
            "index_add_",
            lambda _: edges.weighted_sum(weights, x),
            lambda _: index_add(weights.unsqueeze(2) * x[item]),
        ),
        Operation("dot product per head", "sum", lambda _: _per_head_dot(a, b), lambda _: (a * b).sum(2)),
    ]


def dense_operations(nodes: int, rows: int) -> list[Operation]:
    """What ``lightning_modules.node_classification.dense`` does in place of torch."""
    hidden, logits = torch.randn(nodes, HEADS * WIDTH), torch.randn(nodes, CLASSES)
    weight, like = torch.randn(HEADS * WIDTH, CLASSES), torch.empty(0)

    def bernoulli(p: float) -> Tensor:
        return torch.empty(rows, HEADS).bernoulli_(1 - p).div_(1 - p)

    def pair(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *x: Tensor) -> tuple[Form, Form]:
        return with_gradients(ours, *x), with_gradients(theirs, *x)

    return [
        Operation("ELU", "F.elu", *pair(lambda _, x: elu(x), lambda _, x: F.elu(x), hidden)),
        Operation(
            f"log-softmax of {CLASSES} classes",
            "F.log_softmax",
            *pair(lambda _, x: class_log_probabilities(x), lambda _, x: F.log_softmax(x, -1), logits),
        ),
        Operation(
            f"product with {CLASSES} columns",
            "matmul",
            *pair(lambda _, x, w: narrow_matmul(x, w), lambda _, x, w: x @ w, hidden, weight),
        ),
        Operation("dropout mask", "bernoulli_", lambda p: dropout_mask((rows, HEADS), p, like), bernoulli),
    ]


def compiled_loops(edges: SegmentIndex, ends: Tensor) -> list[Operation]:
    """Attention and the maximum over paths, against what the same functions do on a GPU."""
    i, j, x = (torch.randn(edges.num_groups, HEADS, *shape) for shape in ((), (), (WIDTH,)))
    attend = with_gradients(lambda p, i, j, x: attention_sum(i, j, x, edges, SLOPE, p)[0], i, j, x)
    pool = with_gradients(lambda _, x: pool_paths(x, ends, "max"), x.flatten(1))
    return [
        Operation("attention, compiled", "torch operations", attend, attend, without_compiled_loops),
        Operation("path maximum, compiled", "torch operations", pool, pool, without_compiled_loops),
    ]


def sparse_features(nodes: int, features: int) -> list[Operation]:
    """The first layer's product with dropout, from sparse and from dense features."""
    weight = torch.randn(features, HEADS * WIDTH)

    def product(x: SparseFeatures | Tensor) -> Form:
        return with_gradients(lambda p, w: dropped_matmul(x, w, p), weight)

    operations = []
    for density in DENSITIES:
        x = torch.rand(nodes, features) * (torch.rand(nodes, features) < density)
        sparse = SparseFeatures.from_csr(x.to_sparse_csr())
        name = f"features, {100 * density:g} % non-zero"
        operations.append(Operation(name, "dense", product(sparse), product(x)))
    return operations


def build_operations(data: Data) -> list[Operation]:
    """All rows of the table, for a graph of Cora's size."""
    torch.manual_seed(0)
    graph, edge_index = prepare(data), data.edge_index
    nodes, one_way = graph.num_nodes, edge_index[:, edge_index[0] < edge_index[1]]
    paths = untrained_paths(spagan_network(data, CLASSES), graph, edge_index)
    return [
        *reductions(graph.edges),
        *dense_operations(nodes, graph.edges.num_rows),
        *compiled_loops(graph.edges, PathIndex.build(paths, nodes).ends[3]),
        *sparse_features(*data.x.shape),
        Operation(
            "edges in both directions",
            "to_undirected",
            lambda _: undirected_edge_index(one_way[0], one_way[1], nodes),
            lambda _: to_undirected(one_way, num_nodes=nodes),
        ),
    ]


def check(operation: Operation) -> None:
    """Raises AssertionError unless both forms give the same numbers with dropout off."""
    ours = operation.ours(0.0)
    with operation.around_theirs():
        theirs = operation.theirs(0.0)
    # Sums over thousands of float32 numbers of both signs, in two orders.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3, msg=lambda m: f"{operation.name}: {m}")


def measure(operation: Operation, rounds: int) -> dict[str, str | float]:
    """One row of the table, from ``rounds`` rounds in which both forms run."""
    forms = ((operation.ours, nullcontext), (operation.theirs, operation.around_theirs))
    calls = []
    for form, around in forms:
        with around():
            form(DROPOUT)  # compiles, and fills the caches
            calls.append(math.ceil(SAMPLE_SECONDS / _seconds(form, 1)))
    samples: list[list[float]] = []
    for _ in range(rounds):
        samples.append([])
        for (form, around), count in zip(forms, calls, strict=True):
            with around():
                samples[-1].append(_seconds(form, count))
    ours, theirs = (1e3 * statistics.median(column) for column in zip(*samples, strict=True))
    low, ratio, high = statistics.quantiles(theirs / ours for ours, theirs in samples)
    row: dict[str, str | float] = {"operation": operation.name, "instead of": operation.reference}
    return row | {"ours ms": ours, "theirs ms": theirs, "ratio": ratio, "25 %": low, "75 %": high}


def _seconds(form: Form, calls: int) -> float:
    """CPU seconds of one of ``calls`` calls."""
    started = time.process_time()
    for _ in range(calls):
        form(DROPOUT)
    return (time.process_time() - started) / calls


def main() -> None:
    """Check, measure, print, write ``operations.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=25, help="measured rounds, 2 or more (default: 25)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
    datamodule, name = graph_datamodule(arguments.data)
    operations = build_operations(datamodule.graph)
    for operation in operations:
        check(operation)
    rows = [measure(operation, arguments.rounds) for operation in operations]
    title = f"CPU time of operations on {name}, one thread, medians of {arguments.rounds} rounds"
    write_report("operations", [Table(title, rows)], arguments.output)


if __name__ == "__main__":
    main()
