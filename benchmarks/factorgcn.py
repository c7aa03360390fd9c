"""Time FactorGCN's layer with its discriminator against a loop over factors, its data, and its metrics.

    python -m benchmarks.factorgcn

Both ways compute the same numbers from the same weights, which is checked before anything is timed. They take
turns, so that what else the machine does hits both alike; a ratio is the median over these pairs, with its
quartiles. Figures are CPU time of one thread. The epoch is that of ``model=factorgcn data=factor_graphs`` in
Lightning's loop, batches, metrics and log included.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.factor_loop import looped_step
from benchmarks.report import Table, add_arguments, write_report
from datamodules.factor_graphs import generate
from harness.run_log import quieten_libraries
from lightning_modules.factorgcn.layers import FactorDiscriminator, FactorGraphConv
from lightning_modules.factorgcn.losses import discriminator_loss
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.disentanglement_metric import Disentanglement

WIDTH = 32
GRAPHS = 500
FACTORS = (4, 8, 16)


def layer_row(count: int, batch: dict[str, Tensor], rounds: int) -> dict[str, Any]:
    """Layer, discriminator and their gradients with ``count`` factors: at once and in a loop."""
    torch.manual_seed(0)
    layer = FactorGraphConv(15, WIDTH, count, 6.0, "source")
    discriminator = FactorDiscriminator(WIDTH // count, count)
    parameters = [*layer.parameters(), *discriminator.parameters()]

    def at_once() -> list[Tensor]:
        graphs = Graphs.of(batch)  # made anew, as in training
        found = layer(batch["x"], graphs)
        loss = found.out.square().mean() + discriminator_loss(discriminator(found, graphs))
        return list(torch.autograd.grad(loss, parameters))

    def looped() -> list[Tensor]:
        out, logits = looped_step(layer, discriminator, batch)
        return list(torch.autograd.grad(out.square().mean() + discriminator_loss(logits), parameters))

    for one, other in zip(at_once(), looped(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    pairs = [(_milliseconds(at_once), _milliseconds(looped)) for _ in range(rounds)]
    low, middle, high = statistics.quantiles([theirs / mine for mine, theirs in pairs], n=4)
    return {
        "factors": count,
        "at once ms": statistics.median(mine for mine, _ in pairs),
        "loop ms": statistics.median(theirs for _, theirs in pairs),
        "ratio": middle,
        "25 %": low,
        "75 %": high,
    }


def data_rows(rounds: int) -> list[dict[str, Any]]:
    """Graphs a second of the generator, of batches, of the disentanglement metric, and of an epoch."""
    graphs = generate(20_000, 4, 0, self_loops=True)
    orders = torch.randperm(20_000, generator=torch.Generator().manual_seed(0)).split(1000)
    batch = graphs.batch(torch.arange(1000))
    weights = torch.rand(batch["edge_index"].size(1), 4)
    metric = Disentanglement(4, 4)
    epoch, trained = _epoch()
    jobs: list[tuple[str, int, Callable[[], Any], int]] = [
        ("generator", 20_000, lambda: generate(20_000, 4, 0, self_loops=True), 5),
        ("batches of 1,000", 20_000, lambda: [graphs.batch(order) for order in orders], 5),
        ("GED and C-Score, with both null predictors", 1000, lambda: metric.update(weights, batch), 5),
        ("training epoch with validation", trained, epoch, 3),
    ]
    rows = []
    for name, count, job, least in jobs:
        job()
        times = [_milliseconds(job) for _ in range(min(least, rounds))]
        milliseconds = statistics.median(times)
        rows.append(
            {"what": name, "graphs": count, "ms": milliseconds, "graphs/s": 1000 * count / milliseconds}
        )
    return rows


def _epoch() -> tuple[Callable[[], Any], int]:
    """A function that trains one epoch in Lightning's loop, and how many graphs it goes through."""
    from harness.build import Run, build_callbacks, build_datamodule, build_module, build_trainer
    from harness.configuration.compose import compose

    words = ["model=factorgcn", "data=factor_graphs", "hardware=cpu", "logger=csv", "trainer.max_epochs=1"]
    config = compose([*words, "~callbacks.pictures", "~callbacks.progress"]).config
    module, data = build_module(config), build_datamodule(config)
    folder = Path(tempfile.mkdtemp())

    def train() -> None:
        run = Run(config, folder, module, data, build_callbacks(config["callbacks"]), [])
        build_trainer(run).fit(module, datamodule=data)

    return train, len(data.splits["train"]) + len(data.splits["val"])  # type: ignore[attr-defined]


def _milliseconds(job: Callable[[], Any]) -> float:
    started = time.process_time()
    job()
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Measures, prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=25, help="pairs of turns (default 25)")
    arguments = parser.parse_args()
    quieten_libraries(Path(tempfile.mkdtemp()))
    torch.set_num_threads(1)
    batch = generate(GRAPHS, 4, 0, self_loops=True).batch(torch.arange(GRAPHS))
    tables = [
        Table(
            f"Layer and discriminator, forward and backward, {GRAPHS} graphs, width {WIDTH}, medians of"
            f" {arguments.rounds} rounds",
            [layer_row(count, batch, arguments.rounds) for count in FACTORS],
        ),
        Table(
            "Data, metrics and training on factor_graphs, CPU time of one thread", data_rows(arguments.rounds)
        ),
    ]
    write_report("factorgcn", tables, arguments.output)


if __name__ == "__main__":
    main()
