"""Small teachers, students and batches for the tests of LSP."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.graph_sets import GraphSet, make_graph_set
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.phases import Record, fit_phases
from lightning_modules.lsp.inductive_gat import InductiveGAT
from lightning_modules.lsp.module import LSP
from tests.lightning_modules.graph_prediction.small_graphs import random_graphs
from tests.small_runs import configuration

FACTS: dict[str, Any] = {"in_channels": 16, "num_classes": 10, "target": "node_multi_label"}


def teacher(seed: int = 1, **sizes: Any) -> InductiveGAT:
    """A frozen teacher for mini_ppi, as one that was trained."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"hidden_layers": 2, "heads": 2, "channels": 6, "out_heads": 2}
    settings |= {"negative_slope": 0.2, "logit_threshold": 0.0, "scheduler": None}
    settings["optimizer"] = {"name": "Adam", "lr": 0.005}
    return InductiveGAT(**FACTS | settings | sizes).eval().requires_grad_(False)


def student(*words: str) -> LSP:
    """A student by the preset of mini_ppi, with other values where ``words`` give some."""
    module = build_module(configuration("model=lsp", "data=mini_ppi", *words))
    assert isinstance(module, LSP)
    return module


def fitted(folder: Path, source: InductiveGAT, *words: str) -> tuple[LSP, Record]:
    """A run of two epochs on mini_ppi whose teacher is ``source``."""
    config = configuration("model=lsp", "data=mini_ppi", "trainer.max_epochs=2", *words)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, LSP)
    module.on_prerequisites({"teacher": source})
    data, callbacks = build_datamodule(config), build_callbacks(config["callbacks"])
    loggers = build_loggers(config["logger"], folder)
    return module, fit_phases(Run(config, folder, module, data, callbacks, loggers))


def labelled_graphs(seed: int = 0, *, self_loops: bool = True) -> GraphSet:
    """Five small graphs with features and labels of mini_ppi's widths, in single precision."""
    made = random_graphs(seed, count=5, width=16, self_loops=self_loops)
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(len(made.x), 10, generator=generator) < 0.3).float()
    first = made.ptr[:-1].repeat_interleave(made.edge_ptr.diff())
    source, target = (made.edge_index.long() + first).numpy()
    kept = source != target
    return make_graph_set(
        made.x.float(), made.ptr.diff().numpy(), source[kept], target[kept], y, self_loops=self_loops
    )


def of(graphs: GraphSet, *numbers: int) -> dict[str, Tensor]:
    """A batch of some of them."""
    return graphs.batch(torch.tensor(numbers))
