"""What a training on static graphs tells of itself: what its pictures show, from module and data."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_modules.graph_prediction.module import Batch, graph_sets_of
from lightning_modules.graph_prediction.targets import (
    is_multi_label,
    target_metrics,
    task_loss,
    update_metrics,
)
from lightning_modules.lsp.shared_report import (
    PERCENTILES,
    kernel_in_words,
    place_in_words,
    published_value,
    shown_kernel,
    tested,
)
from lightning_modules.lsp.structure import (
    Direction,
    EdgeNeighbours,
    Kernel,
    log_structure,
    node_divergences,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningDataModule

    from datamodules.graph_sets import GraphSetDataModule, Split
    from lightning_modules.lsp.costs import Cost
    from lightning_modules.lsp.module import LSP
    from lightning_modules.lsp.network import InductiveAttentionNetwork
    from lightning_modules.lsp.pictures import NodeStructure

NAMED = 3  # nodes of the largest divergence


def figures(
    module: "LSP",
    datamodule: "LightningDataModule",
    published: dict[str, Any] | None,
    rows: Sequence[dict[str, Any]],
) -> Iterator[tuple[str, "Figure"]]:
    """Pictures of a trained student; those that need its teacher are left out where there is none.

    Args:
        module: after its test.
        datamodule: its data.
        published: ``{metric, value, spread, ...}`` of the preset, or None.
        rows: metrics of each epoch; empty where nothing was trained.
    """
    from lightning_modules.lsp.pictures import draw_costs, draw_divergences, draw_structures

    data = graph_sets_of(datamodule)
    module.eval()
    if module.teacher is not None:
        weights = next(module.network.parameters())
        module.teacher.network.to(weights.device, weights.dtype).eval()
    if rows:
        yield "scores", _scores(module, data, published, rows)
    if module.teacher is not None:
        divergences = module.divergences(data, "test").numpy()
        yield "divergences", draw_divergences(divergences, _largest(data, divergences))
        kernel, direction = shown_kernel(module.terms)
        yield (
            "local_structures",
            draw_structures(structures(module, data, kernel, direction), kernel_in_words(kernel)),
        )
        yield "costs", draw_costs(*costs(module, data))


def _scores(
    module: "LSP",
    data: "GraphSetDataModule",
    published: dict[str, Any] | None,
    rows: Sequence[dict[str, Any]],
) -> "Figure":
    from lightning_modules.lsp.training_pictures import draw_scores

    metric = "f1" if is_multi_label(module.target) else "acc"
    known = published_value(published, metric)
    teacher = None if module.teacher is None else score(module, module.teacher.network, data, "val")
    name = "Micro-F1" if metric == "f1" else "Accuracy, mean over classes"
    return draw_scores(rows, teacher, known, tested(module, metric), metric=metric, name=name)


@torch.no_grad()
def score(
    module: "LSP", network: "InductiveAttentionNetwork", data: "GraphSetDataModule", split: "Split"
) -> float:
    """Micro-F1 of labels or accuracy of classes on a split, as the module's own tests count it; in [0, 1].

    Args:
        module: that says what is predicted.
        network: that predicts, on the module's device.
        data: its data.
        split: one of them.
    """
    metrics = target_metrics(module.target, split, module.num_classes).to(module.device)
    for metric in metrics.values(copy_state=False):
        metric.sync_on_compute = False  # pictures are drawn by one process alone
    for batch in _batches(module, data, split):
        predicted, _ = network(module.graphs(batch))
        loss = task_loss(module.target, predicted, batch["y"])
        update_metrics(metrics, module.target, loss, predicted, batch["y"], module.logit_threshold)
    return float(metrics.compute()[f"{split}/{'f1' if is_multi_label(module.target) else 'acc'}"])


def _batches(module: "LSP", data: "GraphSetDataModule", split: "Split") -> Iterator[Batch]:
    """All graphs of a split, whatever the process, on the module's device."""
    for batch in data.loader(split, shared=False):
        yield {name: value.to(module.device) for name, value in batch.items()}


def _largest(data: "GraphSetDataModule", divergences: np.ndarray) -> list[str]:
    """Names of the test nodes of the largest divergences, largest first."""
    names = [_numbers(batch) for batch in data.loader("test", shared=False)]
    graph, node = torch.cat(names, dim=1).tolist()
    order = np.argsort(-divergences, kind="stable")[:NAMED]
    return [f"graph {graph[place]}, node {node[place]}" for place in order]


def _numbers(batch: Batch) -> Tensor:
    """Number of each node's graph in the data set, and of the node in its graph; ``[2, n]`` on the CPU."""
    graph = batch["batch"]
    node = torch.arange(len(graph), device=graph.device) - batch["ptr"][graph]
    return torch.stack([batch["index"][graph], node]).cpu()


@torch.no_grad()
def structures(
    module: "LSP", data: "GraphSetDataModule", kernel: Kernel, direction: Direction
) -> "list[NodeStructure]":
    """Local structure of three test nodes, chosen by their place among all nodes' S_i.

    Layers are the last pair that is compared.

    Args:
        module: with its teacher on its device.
        data: its data.
        kernel: one of ``module.terms.kernels``.
        direction: of S_i.

    Raises:
        RuntimeError: there is no teacher.
    """
    from lightning_modules.lsp.pictures import NodeStructure

    if module.teacher is None:
        raise RuntimeError("LSP has no teacher: call on_prerequisites before")
    kernels, layer = module.terms.kernels, module.layer_pairs[-1][1]
    column = (len(module.layer_pairs) - 1) * len(kernels) + kernels.index(kernel)
    parts = []
    for batch in _batches(module, data, "test"):
        graphs = module.graphs(batch)
        neighbours = EdgeNeighbours(graphs.edges)
        student = log_structure(module.network(graphs)[1][layer - 1].out, neighbours, kernel)
        teacher = module.teacher.answer(graphs).structures[:, column]
        parts.append((batch, teacher, student, node_divergences(student, teacher, neighbours, direction)))
    divergences = torch.cat([part[3] for part in parts]).float().cpu()
    order = divergences.argsort(stable=True)
    firsts = np.cumsum([0, *(len(part[3]) for part in parts)])
    found = []
    for percent, name in PERCENTILES:
        place = int(order[round(percent / 100 * (len(order) - 1))])
        number = int(np.searchsorted(firsts, place, side="right")) - 1
        batch, teacher, student, _ = parts[number]
        row = place - int(firsts[number])
        start, end = batch["edge_ptr"][row : row + 2].tolist()
        graph, node = _numbers(batch)
        sources = batch["edge_index"][0, start:end].cpu()
        found.append(
            NodeStructure(
                name=f"{name[0].upper()}{name[1:]}, graph {int(graph[row])}, node {int(node[row])}",
                neighbours=["self" if own == row else str(int(node[own])) for own in sources.tolist()],
                teacher=teacher[start:end].float().exp().cpu().numpy(),
                student=student[start:end].float().exp().cpu().numpy(),
                divergence=float(divergences[place]),
            )
        )
    return found


def costs(module: "LSP", data: "GraphSetDataModule") -> "tuple[Cost, Cost, str]":
    """Costs of the teacher and of the student, and what their pass is over.

    Raises:
        RuntimeError: there is no teacher.
    """
    from lightning_modules.lsp.costs import pass_costs

    if module.teacher is None:
        raise RuntimeError("LSP has no teacher: call on_prerequisites before")
    graphs = module.graphs(next(_batches(module, data, "test")))
    networks = module.teacher.network, module.network
    of_teacher, of_student = pass_costs(networks, graphs, module.device)
    number = graphs.num_graphs
    what = f"{number} test graph{'s' if number > 1 else ''}, {len(graphs.x):,} nodes"
    return of_teacher, of_student, f"{what}, {place_in_words(module.device)}"
