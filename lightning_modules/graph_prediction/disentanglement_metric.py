"""GED_E and the C-Score as metrics that add up over batches and processes."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.graph_prediction.disentanglement import (
    UndirectedEdges,
    assign,
    c_score,
    differing_entries,
    random_weights,
    undirected_edges,
)

PREDICTORS = ("", "_random", "_equal")
"""The method's own weights, and the two null predictors: random ones, and all equal."""

SATURATED = 1e-3
"""A weight this close to 0 or 1 is counted as saturated."""


class Disentanglement(Metric):
    """GED_E and C-Score of factor graphs against known relations, beside two null predictors.

    FactorGCN (arXiv 2010.05421); ``disentanglement.py`` has the arithmetic. Every graph counts once, whatever
    batch and process it is in.

    Args:
        num_relations: P, those that are known.
        num_factors: K, those that are predicted.
    """

    full_state_update = False
    distances: Tensor
    assigned: Tensor
    saturated: Tensor

    def __init__(self, num_relations: int, num_factors: int) -> None:
        super().__init__()
        self.num_factors = num_factors
        float64 = torch.float64
        # sum, sum of squares, number of graphs, for each predictor
        self.add_state("distances", torch.zeros(3, 3, dtype=float64), dist_reduce_fx="sum")
        tables = torch.zeros(3, 2, num_relations, num_factors, dtype=torch.long)
        self.add_state("assigned", tables, dist_reduce_fx="sum")
        self.add_state("saturated", torch.zeros(2, dtype=float64), dist_reduce_fx="sum")

    def update(self, factors: Tensor, batch: dict[str, Tensor]) -> None:
        """Adds a batch.

        Args:
            factors: ``[m, K]``, weight of each edge in each factor graph.
            batch: with ``edge_factors``, ``edge_index``, ``reverse``, ``batch``, ``ptr`` and ``index``.
        """
        numbers = batch["index"].cpu().numpy()
        own = undirected_edges(
            factors.detach().double().cpu().numpy(),
            batch["edge_factors"].cpu().numpy(),
            batch["edge_index"].cpu().numpy(),
            batch["reverse"].cpu().numpy(),
            batch["batch"].cpu().numpy(),
            len(numbers),
        )
        extreme = ((factors < SATURATED) | (factors > 1 - SATURATED)).sum()
        self.saturated += torch.tensor([float(extreme), factors.numel()], dtype=torch.float64).to(self.device)
        for row, edges in enumerate(self._predictions(own, numbers)):
            found = assign(*differing_entries(edges), numbers)
            distance = found.distance[~np.isnan(found.distance)]
            sums = [distance.sum(), (distance**2).sum(), len(distance)]
            self.distances[row] += torch.tensor(sums, dtype=torch.float64).to(self.device)
            tables = torch.from_numpy(np.stack([found.at_random, found.by_index]))
            self.assigned[row] += tables.to(self.device)

    @staticmethod
    def _predictions(own: UndirectedEdges, numbers: np.ndarray) -> tuple[UndirectedEdges, ...]:
        return (
            own,
            replace(own, weights=random_weights(own, numbers)),
            replace(own, weights=np.ones_like(own.weights)),
        )

    def compute(self) -> dict[str, Tensor]:
        """``ged``, ``ged_std``, ``c_score`` (ties at random), ``c_score_index`` (by index), ``saturated``.

        The first four also with ``_random`` and ``_equal`` after their names, of the null predictors. The
        deviation is that of the graphs.
        """
        values: dict[str, float] = {}
        for row, name in enumerate(PREDICTORS):
            total, squares, count = self.distances[row].tolist()
            mean = total / count if count else float("nan")
            values[f"ged{name}"] = mean
            values[f"ged_std{name}"] = max(squares / count - mean**2, 0.0) ** 0.5 if count else float("nan")
            for key, counts in zip(("c_score", "c_score_index"), self.assigned[row], strict=True):
                values[f"{key}{name}"] = c_score(counts.cpu().numpy())
        extreme, number = self.saturated.tolist()
        values["saturated"] = extreme / number if number else float("nan")
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def counts(self) -> Tensor:
        """``[P, K]``, graphs in which relation t was assigned factor k, ties at random."""
        return self.assigned[0, 0]
