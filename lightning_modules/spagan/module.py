"""SPAGAN's training: node attention, then paths found with it, then attention over those paths."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor
from torch_geometric.data import Data

from harness.annotations import ClassSpec, NonNegativeFloat, PathLength, PositiveInt, Probability
from harness.errors import UserError
from lightning_modules.node_classification.module import NodeClassifier, graph_of
from lightning_modules.spagan.diagnostics import Diagnostics, diagnose
from lightning_modules.spagan.edge_costs import edge_costs, unit_costs
from lightning_modules.spagan.layers import PathAttentionWeights, PathIndex, SPAGANNetwork
from lightning_modules.spagan.path_search import PathSets, find_paths, warm_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTENTION = "attention"


class SPAGAN(NodeClassifier):
    """Shortest path graph attention (Yang et al., IJCAI 2019, arXiv 2101.03464).

    Phases: ``attention`` trains a GAT; its first-layer attention gives every edge a cost and every node its
    cheapest paths; ``paths`` trains the path network on them, from new weights. With ``iterations`` above 1
    the paths are found anew from the path network's attention and its training goes on.

    Departures from the authors' code, all switchable or measured to be equal: biases start at zero
    (``init=authors`` draws them), attention logits are shifted by their maximum per centre instead of the
    global one, any ``max_path_nodes`` >= 2 has length attention (the code: 3 only), the number of paths of a
    node follows its degree (the paper) and not its two-node paths (the code; the same on Cora). The paper
    trains again on new paths, its code does not: ``iterations=1``.

    Args:
        in_channels: features of a node.
        num_classes: classes.
        hidden_channels: units of one hidden head.
        heads: hidden heads, concatenated.
        out_heads: output heads, averaged.
        dropout: on the input of both layers and on attention.
        negative_slope: of the leaky ReLU on attention logits.
        init: ``zero_bias`` or ``authors``.
        elu_before_softmax: ELU on the averaged logits.
        output_layer: ``attention`` over direct neighbours or ``linear``.
        max_path_nodes: C, nodes of the longest paths, >= 2.
        path_ratio: r; a node keeps ``floor(r * degree)`` paths of each length above 2; None keeps all.
        path_pool: ``max`` or ``mean`` over the nodes of a path.
        length_attention: attention among lengths; off, their mean.
        edge_cost: ``attention``, or ``unit``: all edges cost 1 and there is no attention phase.
        path_choice: ``cheapest`` or ``random`` paths.
        path_search: ``exact``, ``scipy`` (same paths) or ``hop_limited``.
        iterations: times that paths are found and trained on, >= 1.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        epochs_per_call: epochs in one ``training_step``; speed only.

    Raises:
        ValueError: if ``edge_cost=unit`` is to be iterated, which would find the same paths again.
    """

    network: SPAGANNetwork

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        hidden_channels: PositiveInt,
        heads: PositiveInt,
        out_heads: PositiveInt,
        dropout: Probability,
        negative_slope: NonNegativeFloat,
        init: Literal["zero_bias", "authors"],
        elu_before_softmax: bool,
        output_layer: Literal["attention", "linear"],
        max_path_nodes: PathLength,
        path_ratio: NonNegativeFloat | None,
        path_pool: Literal["max", "mean"],
        length_attention: bool,
        edge_cost: Literal["attention", "unit"],
        path_choice: Literal["cheapest", "random"],
        path_search: Literal["exact", "scipy", "hop_limited"],
        iterations: PositiveInt,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        epochs_per_call: PositiveInt,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, epochs_per_call)
        if edge_cost == "unit" and iterations > 1:
            raise ValueError(
                f"model.iterations must be 1 with model.edge_cost=unit, got {iterations}:"
                " unit costs give the same paths again. Set model.iterations=1 or model.edge_cost=attention."
            )
        self.save_hyperparameters()
        self.max_path_nodes = max_path_nodes
        self.path_ratio = path_ratio
        self.edge_cost: Literal["attention", "unit"] = edge_cost
        self.path_choice: Literal["cheapest", "random"] = path_choice
        self.path_search: Literal["exact", "scipy", "hop_limited"] = path_search
        self.iterations = iterations
        self.network = SPAGANNetwork(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            num_classes=num_classes,
            heads=heads,
            out_heads=out_heads,
            dropout=dropout,
            negative_slope=negative_slope,
            init=init,
            elu_before_softmax=elu_before_softmax,
            max_path_nodes=max_path_nodes,
            path_pool=path_pool,
            length_attention=length_attention,
            output_layer=output_layer,
        )
        self.paths: PathSets | None = None
        self.costs: Tensor | None = None  # [E], those that `paths` were found with
        self.unchanged: list[dict[int, float]] = []  # per rebuilding: share of paths that stayed, by length
        self.test_accuracies: dict[str, float] = {}  # of the phases before the last, for the comparison
        self._path_index: PathIndex | None = None

    @property
    def phases(self) -> tuple[str, ...]:
        rounds = ("paths", *(f"paths_{t}" for t in range(2, self.iterations + 1)))
        return rounds if self.edge_cost == "unit" else (ATTENTION, *rounds)

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        attention = self.phase == ATTENTION
        # a parameter that is out of play must not wait for a gradient (DDP) nor be decayed
        for parameter in self.network.gat.parameters():
            parameter.requires_grad_(attention)
        for parameter in self.network.path_parameters():
            parameter.requires_grad_(not attention)
        if not attention and self.paths is None:
            self._find_paths(graph_of(datamodule, self.device))

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        reported = {}
        graph = graph_of(datamodule, self.device)
        if self.phase != self.phases[-1]:
            accuracy = float(self.test_metrics(graph)["test/acc"])
            name = "gat" if self.phase == ATTENTION else self.phase
            self.test_accuracies[name] = reported[f"test/acc_{name}"] = accuracy
            self._find_paths(graph)
        else:
            assert self.paths is not None
            reported |= self._diagnose(graph, self.paths.to(graph.y.device))[0].scalars()
        return reported

    def _find_paths(self, graph: Data) -> None:
        """Finds the paths of the next phase with the weights of this one."""
        inputs = self.prepare(graph)[0]
        if self.edge_cost == "unit":
            costs = unit_costs(graph.edge_index)
        else:
            source = self.network.gat if self.phase == ATTENTION else self.network
            costs = edge_costs(source.edge_attention(inputs)[0])
        before, self.costs = self.paths, costs
        warm_up(self.path_search, self.max_path_nodes)
        started = time.perf_counter()
        self.paths = self._search(graph, count_all=False)
        self.timings["path search"] = time.perf_counter() - started
        self._path_index = None
        if before is not None:
            self.unchanged.append(before.unchanged_fraction(self.paths))

    def _search(self, graph: Data, count_all: bool) -> PathSets:
        assert self.costs is not None
        return find_paths(
            graph.edge_index,
            self.costs.to(graph.edge_index.device),
            graph.num_nodes,
            max_path_nodes=self.max_path_nodes,
            path_ratio=self.path_ratio,
            search=self.path_search,
            choice=self.path_choice,
            threads=torch.get_num_threads(),
            count_all=count_all,
        )

    def forward(self, graph: Data) -> Tensor:
        """Log-probabilities ``[N, num_classes]``: the GAT's in its phase, then the path network's."""
        inputs = self.prepare(graph)[0]
        output: Tensor
        if self.phase == ATTENTION:
            output = self.network.gat(inputs)
        else:
            output = self.network(inputs, self._index(graph))
        return output

    def _index(self, graph: Data) -> PathIndex:
        if self.paths is None:
            raise RuntimeError("SPAGAN has no paths yet: run its attention phase or load a checkpoint first")
        if self._path_index is None or self._path_index.ends[2][0].device != graph.y.device:
            assert self.costs is not None
            same_number = self.costs.numel() == graph.edge_index.size(1)
            if not same_number or not self.paths.lie_in(graph.edge_index, graph.num_nodes):
                raise UserError(
                    f"the checkpoint's paths were found on another graph, of {self.paths.num_nodes} nodes"
                    f" and {self.costs.numel()} directed edges; this one has {graph.num_nodes} and"
                    f" {graph.edge_index.size(1)}. Give the data settings that it was trained with"
                    " (config.yaml of its run folder)."
                )
            self._path_index = PathIndex.build(self.paths.to(graph.y.device), graph.num_nodes)
        return self._path_index

    def _diagnose(self, graph: Data, paths: PathSets) -> tuple[Diagnostics, PathAttentionWeights]:
        weights = self.network.path_attention(self.prepare(graph)[0], self._index(graph))
        assert self.costs is not None
        diagnostics = diagnose(
            paths.nodes,
            paths.found,
            self.costs,
            weights.alpha,
            weights.beta,
            graph.y,
            graph.edge_index,
            self.num_classes,
        )
        return diagnostics, weights

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        """The pictures of a trained SPAGAN; see ``gallery.py``."""
        from harness.comparison import Score
        from lightning_modules.spagan.gallery import gallery

        graph = graph_of(datamodule, self.device)
        assert self.paths is not None
        # training stops a search early; only the picture of what was found needs all paths counted
        paths = self.paths if self.paths.found_is_total else self._search(graph, count_all=True)
        paths = paths.to(graph.y.device)
        diagnostics, weights = self._diagnose(graph, paths)
        labels = {"gat": "GAT (first phase)"}
        scores = [Score(labels.get(name, name), accuracy) for name, accuracy in self.test_accuracies.items()]
        reported = (published["value"], published["spread"]) if published else ()
        scores.append(Score("SPAGAN", float(self.test_metrics(graph)["test/acc"]), *reported))
        names = getattr(datamodule, "class_names", None) or [str(label) for label in range(self.num_classes)]
        yield from gallery(graph, paths, weights, diagnostics, names, scores, self.unchanged)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["spagan"] = {
            "paths": None if self.paths is None else self.paths.to("cpu").state(),
            "costs": None if self.costs is None else self.costs.cpu(),
            "unchanged": self.unchanged,
            "test_accuracies": self.test_accuracies,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["spagan"]
        self.paths = None if state["paths"] is None else PathSets.from_state(state["paths"])
        self.costs = state["costs"]
        if self.paths is not None and self.paths.lengths != tuple(range(2, self.max_path_nodes + 1)):
            raise ValueError("its paths are not of model.max_path_nodes")
        if self.paths is not None and (not isinstance(self.costs, Tensor) or self.costs.dim() != 1):
            raise ValueError("its edge costs are damaged")
        self.unchanged = list(state["unchanged"])
        self.test_accuracies = dict(state["test_accuracies"])
        self._path_index = None
