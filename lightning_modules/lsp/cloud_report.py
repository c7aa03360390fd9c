"""What a training on point clouds tells of itself: what its pictures show, from module and data."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.figures import class_label
from lightning_modules.lsp.clouds import CloudNeighbours, EdgesOf, overlap_limits
from lightning_modules.lsp.shared_report import (
    PERCENTILES,
    kernel_in_words,
    place_in_words,
    published_value,
    shown_kernel,
    tested,
)
from lightning_modules.lsp.structure import log_structure, node_divergences
from lightning_modules.point_cloud_classification.module import PointCloudClassifier, clouds_of
from lightning_modules.point_cloud_classification.networks import EmbeddedClouds

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningDataModule

    from datamodules.point_clouds import PointCloudDataModule
    from lightning_modules.lsp.cloud_module import CloudLSP
    from lightning_modules.lsp.costs import Cost
    from lightning_modules.lsp.pictures import NodeStructure

NAMED = 2  # points of the largest divergence: names of classes are long


def training_figure(module: "CloudLSP", rows: Sequence[dict[str, Any]]) -> "Figure":
    """Terms, ruler and overlap of the graphs by epoch."""
    from lightning_modules.lsp.training_pictures import draw_training

    limits = None
    if module.teacher is not None:
        points = int(module.hparams["num_points"])
        limits = overlap_limits(module.teacher.network.k, module.network.k, points)
    return draw_training(rows, module.terms.lsp_until, limits)


def figures(
    module: "CloudLSP",
    datamodule: "LightningDataModule",
    published: dict[str, Any] | None,
    rows: Sequence[dict[str, Any]],
) -> Iterator[tuple[str, "Figure"]]:
    """Pictures of a trained student; those that need its teacher are left out where there is none.

    Args:
        module: after its test, its teacher placed beside it.
        datamodule: its data.
        published: ``{metric, value, spread, ...}`` of the preset, or None.
        rows: metrics of each epoch; empty where nothing was trained.
    """
    from lightning_modules.lsp.cloud_pictures import draw_class_divergences
    from lightning_modules.lsp.pictures import draw_costs, draw_divergences, draw_structures
    from lightning_modules.lsp.training_pictures import draw_scores

    data = clouds_of(datamodule)
    module.eval()
    if rows:
        reached = None if module.teacher is None else val_accuracy(module.teacher, data)
        known, kept = published_value(published, "acc"), tested(module, "acc")
        yield "scores", draw_scores(rows, reached, known, kept, metric="acc", name="Accuracy")
    if module.teacher is None:
        return
    by_ruler, by_shown = divergences(module, data)
    test = data.splits["test"]
    yield "divergences", draw_divergences(by_ruler.numpy(), largest(data, by_ruler), "points")
    means = by_ruler.double().mean(dim=1).numpy()
    labels, numbers = test.labels.cpu().numpy(), test.index.cpu().numpy()
    yield "divergences_by_class", draw_class_divergences(means, labels, numbers, data.class_names)
    said = kernel_in_words(shown_kernel(module.terms)[0])
    yield "local_structures", draw_structures(structures(module, data, by_shown), said, "point")
    yield "costs", draw_costs(*costs(module, data))


def compared_spaces(module: "CloudLSP", pos: Tensor) -> dict[str, Tensor]:
    """Features ``[B, n, C]`` of the layers that are compared, by heading, the teacher's beside the student's.

    Raises:
        RuntimeError: there is no teacher.
    """
    taught, own = _teacher_of(module).features(pos), module.features(pos)
    found = {}
    for one, other in module.layer_pairs:
        found[f"teacher, layer {one}"] = taught[one - 1]
        found[f"student, layer {other}"] = own[other - 1]
    return found


def val_accuracy(classifier: PointCloudClassifier, data: "PointCloudDataModule") -> float | None:
    """Share of validation clouds that are recognised, in [0, 1]; None where there are none."""
    if "val" not in data.splits:
        return None
    predicted = classifier.probabilities(data.loader("val", shared=False)).argmax(dim=1).cpu()
    return float((predicted == data.splits["val"].labels.cpu()).double().mean())


@torch.no_grad()
def divergences(module: "CloudLSP", data: "PointCloudDataModule") -> tuple[Tensor, Tensor]:
    """S_i of all points of test clouds, ``[N, n]`` each on the CPU.

    Returns:
        By the common ruler, mean over the pairs of layers; and of the structures that are drawn.

    Raises:
        RuntimeError: there is no teacher.
    """
    by_ruler, by_shown = [], []
    direction = shown_kernel(module.terms)[1]
    for batch in data.loader("test", shared=False):
        taught, embedded = _both(module, batch["pos"])
        by_ruler.append(module.divergences(taught, embedded).float().cpu())
        neighbours, teacher, student = _structures(module, taught, embedded)
        by_shown.append(node_divergences(student, teacher, neighbours, direction).float().cpu())
    return torch.cat(by_ruler), torch.cat(by_shown)


def _teacher_of(module: "CloudLSP") -> PointCloudClassifier:
    if module.teacher is None:
        raise RuntimeError("LSP has no teacher: call on_prerequisites before")
    return module.teacher


def _both(module: "CloudLSP", pos: Tensor) -> tuple[EmbeddedClouds, EmbeddedClouds]:
    """What the teacher and the student make of clouds ``[B, n, 3]``."""
    weights = next(module.network.parameters())
    pos = pos.to(weights.device, weights.dtype)
    return module.ask(pos), module.network(pos)


def _structures(
    module: "CloudLSP", taught: EmbeddedClouds, embedded: EmbeddedClouds
) -> tuple[CloudNeighbours, Tensor, Tensor]:
    """Pairs of points, and ``log LS`` of the teacher and of the student: those of the last pair of layers.

    Over the edges and by the kernel that the student learnt by, or the common ruler's.
    """
    one, other = module.layer_pairs[-1]
    edges: EdgesOf = module.edges if module.terms.copies_structure else "union"
    neighbours = CloudNeighbours.of(taught.graph(one - 1), embedded.graph(other - 1), edges)
    kernel, _ = shown_kernel(module.terms)
    teacher = log_structure(taught.features[one - 1], neighbours, kernel)
    return neighbours, teacher, log_structure(embedded.features[other - 1], neighbours, kernel)


def _name(data: "PointCloudDataModule", cloud: int, point: int) -> str:
    """``chair 12, point 3``: class and number of a test cloud, as the gallery and the table number it."""
    test = data.splits["test"]
    return f"{class_label(data.class_names, int(test.labels[cloud]))} {int(test.index[cloud])}, point {point}"


def largest(data: "PointCloudDataModule", found: Tensor) -> list[str]:
    """Names of the test points of the largest S_i ``[N, n]``, largest first."""
    places = found.flatten().argsort(descending=True, stable=True)[:NAMED].tolist()
    return [_name(data, *divmod(place, found.size(1))) for place in places]


@torch.no_grad()
def structures(module: "CloudLSP", data: "PointCloudDataModule", found: Tensor) -> "list[NodeStructure]":
    """Local structure of three test points, chosen by their place among all points' S_i.

    Args:
        module: with its teacher beside it.
        data: its data.
        found: S_i of the structures that are drawn, ``[N, n]``, see :func:`divergences`.

    Raises:
        RuntimeError: there is no teacher.
    """
    from lightning_modules.lsp.pictures import NodeStructure

    _teacher_of(module)
    order = found.flatten().argsort(stable=True)
    nodes = []
    for percent, name in PERCENTILES:
        cloud, point = divmod(int(order[round(percent / 100 * (len(order) - 1))]), found.size(1))
        taught, embedded = _both(module, data.splits["test"].pos[cloud : cloud + 1])
        neighbours, teacher, student = _structures(module, taught, embedded)
        counts = neighbours.valid[0, point]
        shown = neighbours.index[0, point][counts].tolist()
        nodes.append(
            NodeStructure(
                name=f"{name[0].upper()}{name[1:]}, {_name(data, cloud, point)}",
                neighbours=["self" if other == point else str(other) for other in shown],
                teacher=teacher[0, point][counts].float().exp().cpu().numpy(),
                student=student[0, point][counts].float().exp().cpu().numpy(),
                divergence=float(found[cloud, point]),
            )
        )
    return nodes


def costs(module: "CloudLSP", data: "PointCloudDataModule") -> "tuple[Cost, Cost, str]":
    """Costs of the teacher and of the student, and what their pass is over.

    Raises:
        RuntimeError: there is no teacher.
    """
    from lightning_modules.lsp.costs import pass_costs

    weights = next(module.network.parameters())
    pos = next(iter(data.loader("test", shared=False)))["pos"].to(weights.device, weights.dtype)
    networks = _teacher_of(module).network, module.network
    of_teacher, of_student = pass_costs(networks, pos, weights.device)
    clouds = f"{len(pos)} test cloud{'s' if len(pos) > 1 else ''} of {pos.size(1):,} points"
    return of_teacher, of_student, f"{clouds}, {place_in_words(weights.device)}"
