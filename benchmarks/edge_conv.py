"""Time EdgeConv in split form against the concatenated one, and the search of neighbours against topk.

    python -m benchmarks.edge_conv

Both forms have the same weights and must first give the same values, gradients and running statistics. The
concatenated form is the one that DGCNN's authors wrote down: features of all edges, a 1x1 convolution, batch
normalisation, LeakyReLU, maximum. There are four clouds of 1,024 points with 20 neighbours each, the size at
which LSP's specification times it.

They take turns, so that what else the machine does hits both alike; a ratio is the median over these pairs,
with its quartiles. Figures are CPU time of one thread.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import Table, add_arguments, asked, write_report
from lightning_modules.point_cloud_classification.edge_conv import EdgeConv, edge_features
from lightning_modules.point_cloud_classification.edge_pooling import neighbour_max
from lightning_modules.point_cloud_classification.knn import knn_graph
from lightning_modules.point_cloud_classification.networks import DGCNN

CLOUDS, POINTS, K = 4, 1024, 20
WIDTHS = ((3, 64), (64, 64), (64, 128), (128, 256))  # every layer of the published network
Form = Callable[[], Any]


def with_normalisation(in_channels: int, out_channels: int, dtype: torch.dtype) -> tuple[Form, Form]:
    """Forward and backward pass of the layer in training, split and concatenated."""
    layer = EdgeConv(in_channels, out_channels).to(dtype)
    twin = copy.deepcopy(layer)
    x, neighbours, grad = _inputs(in_channels, out_channels, dtype)

    def form(module: EdgeConv, function: Callable[[Tensor, Tensor], Tensor]) -> Form:
        def run() -> tuple[Tensor, ...]:
            out = function(x, neighbours)
            return out, *torch.autograd.grad(out, [x, *module.parameters()], grad), *module.buffers()

        return run

    return form(layer, layer.forward), form(twin, twin.textbook)


def without_normalisation(in_channels: int, out_channels: int, dtype: torch.dtype) -> tuple[Form, Form]:
    """The same without batch normalisation, where the maximum alone is needed."""
    weight = EdgeConv(in_channels, out_channels).to(dtype).conv.weight
    x, neighbours, grad = _inputs(in_channels, out_channels, dtype)
    first = torch.arange(0, CLOUDS * POINTS, POINTS).view(-1, 1, 1)

    def split() -> tuple[Tensor, ...]:
        near, own = weight.flatten(1).split(in_channels, dim=1)
        flat = x.flatten(0, 1)
        index = (neighbours + first).view(-1, K).to(torch.int32)
        largest = neighbour_max(F.linear(flat, near), index) + F.linear(flat, own - near)
        out = F.leaky_relu(largest, 0.2).view(CLOUDS, POINTS, -1)
        return out, *torch.autograd.grad(out, [x, weight], grad)

    def concatenated() -> tuple[Tensor, ...]:
        edges = edge_features(x, neighbours).permute(0, 3, 1, 2)
        out = F.leaky_relu(F.conv2d(edges, weight), 0.2).max(dim=3).values.mT
        return out, *torch.autograd.grad(out, [x, weight], grad)

    return split, concatenated


def neighbours_of(channels: int) -> tuple[Form, Form]:
    """Nearest neighbours, and topk of the whole matrix of squared distances."""
    x = torch.randn(CLOUDS, POINTS, channels)

    def whole() -> Tensor:
        norms = x.square().sum(dim=2)
        distances = norms[:, :, None] + norms[:, None] - 2 * x @ x.mT
        return distances.topk(K, dim=2, largest=False).indices

    same = (knn_graph(x, K).sort(dim=2).values == whole().sort(dim=2).values).float().mean()
    assert same > 0.999, "but for rounding they are the same"
    return lambda: knn_graph(x, K), whole


def whole_network(dtype: torch.dtype) -> tuple[Form, Form]:
    """A step of the published network without its optimiser: all layers in either form."""
    network = DGCNN(3, 40, (64, 64, 128, 256), 1024, (512, 256), K, 0.0).to(dtype)
    twin = copy.deepcopy(network)
    for layer in twin.layers:
        layer.forward = layer.textbook  # type: ignore[assignment]
    pos, y = torch.randn(CLOUDS, POINTS, 3, dtype=dtype), torch.arange(CLOUDS)

    def form(module: nn.Module) -> Form:
        def run() -> tuple[Tensor, ...]:
            loss = F.cross_entropy(module(pos).logits, y)
            return torch.autograd.grad(loss, list(module.parameters()))

        return run

    return form(network), form(twin)


def _inputs(in_channels: int, out_channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(CLOUDS, POINTS, in_channels, dtype=dtype)
    grad = torch.randn(CLOUDS, POINTS, out_channels, dtype=dtype)
    return x.clone().requires_grad_(), knn_graph(x, K), grad


def check(forms: tuple[Form, Form]) -> None:
    """Raises AssertionError unless both give the same; in float64, where no maximum hangs on rounding."""
    for one, other in zip(*(form() for form in forms), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def row(names: dict[str, str], forms: tuple[Form, Form], rounds: int) -> dict[str, Any]:
    """One line of the table, of ``rounds`` pairs in which either form is the first by turns."""
    ours, theirs = forms
    ours()
    pairs = []
    for number in range(rounds):
        if number % 2:
            other, mine = _milliseconds(theirs), _milliseconds(ours)
        else:
            mine, other = _milliseconds(ours), _milliseconds(theirs)
        pairs.append((mine, other))
    low, middle, high = statistics.quantiles([other / mine for mine, other in pairs], n=4)
    return names | {
        "ours ms": statistics.median(mine for mine, _ in pairs),
        "theirs ms": statistics.median(other for _, other in pairs),
        "ratio": middle,
        "25 %": low,
        "75 %": high,
    }


def _milliseconds(job: Form) -> float:
    started = time.process_time()
    job()
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Checks, measures, prints the tables and writes ``edge_conv.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of turns, 2 or more (default 15)")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers, searches = [], []
    for widths in WIDTHS:
        name = f"{widths[0]} -> {widths[1]}"
        for norm, make in (("yes", with_normalisation), ("no", without_normalisation)):
            names = {"EdgeConv": name, "batch normalisation": norm}
            check(make(*widths, torch.float64))
            layers.append(row(names, make(*widths, torch.float32), rounds))
        searches.append(row({"features of a point": str(widths[0])}, neighbours_of(widths[0]), rounds))
    check(whole_network(torch.float64))
    step = row({"network": "64, 64, 128, 256"}, whole_network(torch.float32), rounds)
    size = f"{CLOUDS} clouds of {POINTS:,} points, k = {K}, one thread, medians of {rounds} rounds"
    tables = [
        Table(
            f"EdgeConv, forward and backward, split against concatenated; {size}",
            layers,
            asked("1.8 times", min(one["ratio"] for one in layers) >= 1.8),
        ),
        Table(f"Nearest neighbours against topk of the distance matrix; {size}", searches),
        Table(f"DGCNN, forward and backward, neighbours searched alike in both forms; {size}", [step]),
    ]
    write_report("edge_conv", tables, arguments.output)


if __name__ == "__main__":
    main()
