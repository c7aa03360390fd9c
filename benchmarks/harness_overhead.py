"""What an epoch costs in the harness against a plain PyTorch loop that does the same work.

Same work: one optimiser step, one validation, train and validation metrics written to a CSV file, the best
weights kept, every epoch, full batch, sparse features. ``usual`` is the common Lightning stack beside it:
automatic optimisation, ``self.log``, EarlyStopping, ModelCheckpoint with ``save_last``, CSVLogger.

    python -m benchmarks.harness_overhead --data <folder of data sets>
"""

import argparse
import contextlib
import csv
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import Logger
from torch import Tensor, nn

from benchmarks.report import Table, add_arguments, graph_datamodule, write_report
from callbacks.best_weights import BestWeights
from harness.build import Run, build, build_trainer
from harness.configuration.compose import compose
from harness.metrics_csv import MetricsCSV
from lightning_modules.node_classification.graph import GraphInputs
from lightning_modules.node_classification.module import NodeClassifier
from lightning_modules.node_classification.sparse import SparseLinear


class OneLayer(NodeClassifier):
    """A linear classifier of the features: hardly any work, so that the loop is all there is."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(num_classes, {"name": "Adam", "lr": 0.01, "weight_decay": 5e-4}, None, 25)
        self.network = _LogSoftmaxLinear(in_channels, num_classes)


class _LogSoftmaxLinear(nn.Module):
    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = SparseLinear(in_channels, num_classes, 0.0)

    def forward(self, graph: GraphInputs) -> Tensor:
        return torch.log_softmax(self.linear(graph.features), dim=-1)


class Usual(LightningModule):
    """The same network, trained as Lightning's documentation shows it."""

    def __init__(self, module: NodeClassifier) -> None:
        super().__init__()
        self.module = module

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, metrics = self.module.training_loss(batch)
        self.log_dict({"train/loss": loss, **metrics}, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict(self.module.validation_metrics(batch), batch_size=1)

    def configure_optimizers(self) -> Any:
        return self.module.configure_optimizers()


class Stopwatch(Callback):
    """CPU seconds between the start and the end of training."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = -time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += time.process_time()


def plain_loop(module: NodeClassifier, datamodule: Any, epochs: int, folder: Path) -> float:
    """CPU seconds of the loop that one would write by hand."""
    graph = datamodule.graph
    module.prepare(graph)
    optimizer = module.configure_optimizers()
    best, best_weights = float("inf"), {}
    with (folder / "plain.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        started = time.process_time()
        for epoch in range(epochs):
            module.train()
            loss, train = module.training_loss(graph)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            module.eval()
            with torch.no_grad():
                val = module.validation_metrics(graph)
            row = [loss.item(), train["train/acc"].item(), val["val/loss"].item(), val["val/acc"].item()]
            writer.writerow([epoch, *row])
            if row[2] < best:
                best = row[2]
                best_weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        seconds = time.process_time() - started
    assert best_weights
    return seconds


def harness(module: NodeClassifier, datamodule: Any, epochs: int, folder: Path) -> float:
    """CPU seconds of the same epochs in the Trainer that the harness builds."""
    config = compose(["logger=csv", f"trainer.max_epochs={epochs}", "hardware=cpu"]).config
    watch = Stopwatch()
    callbacks: list[Callback] = [
        build({**node, **({"patience": None} if name == "best_weights" else {})}, "callbacks")
        for name, node in config["callbacks"].items()
    ]
    assert any(isinstance(callback, BestWeights) for callback in callbacks)
    loggers: list[Logger] = [MetricsCSV(folder / f"{time.monotonic_ns()}.csv")]
    trainer = build_trainer(Run(config, folder, module, datamodule, [*callbacks, watch], loggers))
    trainer.fit(module, datamodule=datamodule)
    assert trainer.current_epoch == epochs
    return watch.seconds


def usual(module: NodeClassifier, datamodule: Any, epochs: int, folder: Path) -> float:
    """CPU seconds of the same epochs in the common Lightning stack."""
    watch = Stopwatch()
    place = folder / f"{time.monotonic_ns()}"
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=CSVLogger(place),
        callbacks=[
            EarlyStopping("val/loss", patience=epochs),
            ModelCheckpoint(place, monitor="val/loss", save_last=True),
            watch,
        ],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Usual(module), datamodule=datamodule)
    return watch.seconds


def modules(datamodule: Any) -> dict[str, Callable[[], NodeClassifier]]:
    """Makers of the three models, each ready to train; SPAGAN in its path phase."""
    facts = {"in_channels": datamodule.in_channels, "num_classes": datamodule.num_classes}

    def from_config(name: str) -> NodeClassifier:
        node = compose([f"model={name}", "data=mini_citation"]).config["model"]
        module: NodeClassifier = build({**node, **facts}, "model")
        return module

    def spagan() -> NodeClassifier:
        module = from_config("spagan")
        module.phase_index = 1
        module.on_phase_start(datamodule)
        return module

    return {
        "SPAGAN": spagan,
        "GAT": lambda: from_config("gat"),
        "one layer": lambda: OneLayer(**facts),
    }


def main() -> None:
    """Runs all candidates in turn, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--rounds", type=int, default=5, help="times that all candidates run in turn (default 5)"
    )
    parser.add_argument(
        "--epochs", type=int, default=60, help="epochs of SPAGAN and GAT; the one layer runs 10 times as many"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    datamodule, name = graph_datamodule(arguments.data)
    candidates = {"plain": plain_loop, "harness": harness, "usual": usual}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model, make in modules(datamodule).items():
            epochs = arguments.epochs * (10 if model == "one layer" else 1)
            seconds: dict[str, list[float]] = {candidate: [] for candidate in candidates}
            for _ in range(arguments.rounds):
                for candidate, run in candidates.items():
                    seed_everything(0, verbose=False)
                    with contextlib.redirect_stderr(io.StringIO()):  # the progress lines, not their cost
                        used = run(make(), datamodule, epochs, Path(folder))
                    seconds[candidate].append(1000 * used / epochs)
            row: dict[str, Any] = {"model": model, "epochs": epochs}
            row |= {f"{candidate} ms": statistics.median(values) for candidate, values in seconds.items()}
            for candidate in ("harness", "usual"):
                pairs = zip(seconds[candidate], seconds["plain"], strict=True)
                row[f"{candidate}/plain"] = statistics.median(a / b for a, b in pairs)
            rows.append(row)
    title = f"CPU time of one epoch on {name}, one thread, medians of {arguments.rounds} rounds"
    write_report("harness_overhead", [Table(title, rows)], arguments.output)


if __name__ == "__main__":
    main()
