"""The pictures of what a trained network's factors are, from a data module's test graphs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_modules.graph_prediction.disentanglement import (
    differing_entries,
    matched_factors,
    undirected_edges,
)
from lightning_modules.graph_prediction.factor_pictures import (
    Example,
    draw_assignment,
    draw_correlation,
    draw_factor_graphs,
    draw_weights,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.graph_sets import GraphSetDataModule
    from lightning_modules.graph_prediction.module import GraphPredictor

GRAPHS = 500  # test graphs that correlations and histograms are taken over
EXAMPLES = 4


@torch.no_grad()
def draw_factors(module: "GraphPredictor", data: "GraphSetDataModule") -> Iterator[tuple[str, "Figure"]]:
    """Factor graphs of a few graphs, the assignment of factors, correlation of channels, histograms.

    Nothing where the network has no factors; no assignment where the data know no relations.

    Args:
        module: after its test, in evaluation mode.
        data: set up.
    """
    count = min(len(data.splits["test"]), GRAPHS)
    batch = data.loader("test", shared=False).batch(torch.arange(count, device=module.device))
    _, found = module.network(module.graphs(batch))
    measured = found[module.measured_layer - 1]
    if measured.factors is None:
        return
    factors = module.exact_factors(batch)
    assert factors is not None
    names = data.factor_names or ()
    yield "factor_graphs", draw_factor_graphs(_examples(batch, factors), names)
    if module.disentanglement is not None:
        scores = {name: float(value) for name, value in module.disentanglement.compute().items()}
        counts = module.disentanglement.counts().cpu().numpy()
        yield "factor_assignment", draw_assignment(counts, names, scores, f"Layer {module.measured_layer}")
    channels = measured.out.float().cpu().numpy()
    yield "feature_correlation", draw_correlation(channels, factors.size(1), module.measured_layer)
    yield (
        "factor_weights",
        draw_weights([one.factors.float().cpu().numpy() for one in found if one.factors is not None]),
    )


def _examples(batch: dict[str, Tensor], factors: Tensor) -> list[Example]:
    """The first graphs of a batch, each with the factors that stand for its relations."""
    count = len(batch["ptr"]) - 1
    truth = batch.get("edge_factors", torch.zeros(len(factors), 0, dtype=torch.bool)).cpu().numpy()
    ends, ptr = batch["edge_index"].cpu().numpy(), batch["ptr"].cpu().numpy()
    edges = undirected_edges(
        factors.cpu().numpy(),
        truth,
        ends,
        batch["reverse"].cpu().numpy(),
        batch["batch"].cpu().numpy(),
        count,
    )
    pairs = ends[:, ends[0] < ends[1]].T  # in the order of the undirected edges
    costs, sizes = differing_entries(edges) if truth.shape[1] else (None, None)
    made = []
    for b in range(min(EXAMPLES, count)):
        mine = edges.graph == b
        matched = {} if costs is None or sizes is None else matched_factors(costs[b], sizes[b])
        made.append(
            Example(
                number=int(batch["index"][b]),
                num_nodes=int(ptr[b + 1] - ptr[b]),
                edges=pairs[mine] - ptr[b],
                truth=edges.truth[mine],
                weights=np.clip(edges.weights[mine], 0, 1),
                matched=matched,
            )
        )
    return made
