"""Time one training step of SPAGAN and GAT against the naive form of the same network.

    python -m benchmarks.training_step --data <folder of data sets>

A step is forward, loss, backward and Adam on the full graph. "naive" computes one head at a time with the
concatenation ``[P, 2F]``, dense features, dense dropout and scatter (``naive_spagan.py``); "without compiled
loops" is our form with attention and path pooling as torch operations. The tests show that outputs and
gradients of all three are equal. Figures are medians of CPU time, one thread, candidates taking turns. The
networks are untrained, which changes no tensor's shape; paths follow the costs of the untrained GAT.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from benchmarks.naive_spagan import NaiveGAT, NaiveSPAGAN
from benchmarks.report import Table, add_arguments, graph_datamodule, write_report
from lightning_modules.node_classification import attention
from lightning_modules.node_classification.graph import GraphInputs, prepare
from lightning_modules.spagan import path_pooling
from lightning_modules.spagan.edge_costs import edge_costs
from lightning_modules.spagan.layers import PathIndex, SPAGANNetwork
from lightning_modules.spagan.path_search import PathSets, find_paths

WARM_UP = 3


@dataclass(frozen=True)
class Candidate:
    """A network, its forward pass, and what surrounds every step of it."""

    network: nn.Module
    forward: Callable[[], Tensor]
    surroundings: Callable[[], AbstractContextManager[None]] = nullcontext


def _never(x: Tensor) -> bool:
    return False


@contextmanager
def without_compiled_loops() -> Iterator[None]:
    """Attention and path pooling as torch operations, also on CPU."""
    with (
        mock.patch.object(attention, "uses_kernels", _never),
        mock.patch.object(path_pooling, "uses_kernels", _never),
    ):
        yield


def spagan_network(data: Data, num_classes: int) -> SPAGANNetwork:
    """The network of the published Cora setting."""
    return SPAGANNetwork(
        in_channels=data.x.size(1),
        hidden_channels=8,
        num_classes=num_classes,
        heads=8,
        out_heads=1,
        dropout=0.6,
        negative_slope=0.2,
        init="zero_bias",
        elu_before_softmax=True,
        max_path_nodes=3,
        path_pool="max",
        length_attention=True,
        output_layer="attention",
    )


def untrained_paths(network: SPAGANNetwork, graph: GraphInputs, edge_index: Tensor) -> PathSets:
    """Paths of at most three nodes by the costs of the network's untrained GAT."""
    costs = edge_costs(network.gat.edge_attention(graph)[0])
    return find_paths(edge_index, costs, graph.num_nodes, max_path_nodes=3, path_ratio=0.5)


def candidates(data: Data) -> tuple[dict[str, Candidate], PathSets]:
    """All candidates, and the paths that SPAGAN's three forms share."""
    torch.manual_seed(0)
    network = spagan_network(data, int(data.y.max()) + 1)
    graph = prepare(data)
    paths = untrained_paths(network, graph, data.edge_index)
    index = PathIndex.build(paths, graph.num_nodes)
    dense = data.x.to_dense()
    nodes = torch.arange(graph.num_nodes)
    loops = torch.cat([data.edge_index, nodes.expand(2, -1)], dim=1)
    plain = copy.deepcopy(network)
    naive_spagan, naive_gat = NaiveSPAGAN(network), NaiveGAT(network.gat)
    return {
        "SPAGAN": Candidate(network, lambda: network(graph, index)),
        "SPAGAN without compiled loops": Candidate(
            plain, lambda: plain(graph, index), without_compiled_loops
        ),
        "SPAGAN naive": Candidate(naive_spagan, lambda: naive_spagan(dense, loops, paths.nodes)),
        "GAT": Candidate(network.gat, lambda: network.gat(graph)),
        "GAT without compiled loops": Candidate(plain.gat, lambda: plain.gat(graph), without_compiled_loops),
        "GAT naive": Candidate(naive_gat, lambda: naive_gat(dense, loops)),
    }, paths


def step_seconds(candidate: Candidate, optimizer: torch.optim.Optimizer, data: Data) -> float:
    """CPU seconds of one training step."""
    started = time.process_time()
    loss = F.nll_loss(candidate.forward()[data.train_mask], data.y[data.train_mask])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.process_time() - started


def evaluation_seconds(candidate: Candidate) -> float:
    """CPU seconds of one forward pass without dropout and gradient."""
    candidate.network.eval()
    started = time.process_time()
    with torch.no_grad():
        candidate.forward()
    seconds = time.process_time() - started
    candidate.network.train()
    return seconds


def measure(data: Data, rounds: int) -> tuple[list[dict[str, str | float]], PathSets]:
    """Median milliseconds per candidate and the ratio of its step to that of our form.

    Args:
        data: a graph as every graph data module gives it.
        rounds: measured rounds; every candidate runs once in each.
    """
    runs, paths = candidates(data)
    # As in training, a step before touches only what is in play: gradients of the other part stay None.
    optimizers = {
        name: torch.optim.Adam(candidate.network.parameters(), lr=0.005, weight_decay=5e-4)
        for name, candidate in runs.items()
    }
    steps: dict[str, list[float]] = {name: [] for name in runs}
    evaluations: dict[str, list[float]] = {name: [] for name in runs}
    for k in range(rounds + WARM_UP):
        for name, candidate in runs.items():
            with candidate.surroundings():
                step = step_seconds(candidate, optimizers[name], data)
                evaluation = evaluation_seconds(candidate)
            candidate.network.zero_grad(set_to_none=True)
            if k >= WARM_UP:
                steps[name].append(step)
                evaluations[name].append(evaluation)
    rows: list[dict[str, str | float]] = []
    for name in runs:
        ours = name.split()[0]
        rows.append(
            {
                "network": name,
                "step ms": 1e3 * statistics.median(steps[name]),
                "evaluation ms": 1e3 * statistics.median(evaluations[name]),
                "step ratio": statistics.median(steps[name]) / statistics.median(steps[ours]),
            }
        )
    return rows, paths


def main() -> None:
    """Measure, print, write ``training_step.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=30, help="measured rounds (default: 30)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    datamodule, name = graph_datamodule(arguments.data)
    rows, paths = measure(datamodule.graph, arguments.rounds)
    counts = {c: nodes.size(0) for c, nodes in paths.nodes.items()}
    title = f"CPU time of a training step on {name}, one thread, medians of {arguments.rounds} rounds"
    write_report("training_step", [Table(f"{title}, paths {counts}", rows)], arguments.output)


if __name__ == "__main__":
    main()
