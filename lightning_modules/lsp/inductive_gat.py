"""A deep attention network for nodes of many graphs: LSP's teacher, and its student without one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pytorch_lightning import LightningDataModule

from harness.annotations import ClassSpec, NonNegativeFloat, PositiveInt
from lightning_modules.graph_prediction.module import GraphPredictor
from lightning_modules.lsp.network import InductiveAttentionNetwork

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AttentionPredictor(GraphPredictor):
    """Trains an :class:`InductiveAttentionNetwork` on labels or classes of nodes.

    Args:
        in_channels: features of a node.
        num_classes: labels or classes.
        target: ``node_multi_label`` or ``node_class``.
        hidden_layers: beside the output layer.
        heads: of each hidden layer.
        channels: units of each head.
        out_heads: of the output layer, whose mean is the prediction.
        negative_slope: of the leaky ReLU on attention logits.
        logit_threshold: a label is predicted where its logit is above.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
    """

    task = "inductive_node_classification"
    evaluation_only: ClassVar[tuple[str, ...]] = ("logit_threshold",)
    network: InductiveAttentionNetwork

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        target: Literal["node_multi_label", "node_class"],
        hidden_layers: int,
        heads: int,
        channels: int,
        out_heads: int,
        negative_slope: float,
        logit_threshold: float,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        super().__init__(num_classes, target, 1, "holdout", optimizer, scheduler, None, 1)
        self.logit_threshold = logit_threshold
        self._sizes = (in_channels, hidden_layers, heads, channels, out_heads, num_classes)
        self._negative_slope = negative_slope
        self.network = self.make_network()

    def make_network(self) -> InductiveAttentionNetwork:
        return InductiveAttentionNetwork(*self._sizes, self._negative_slope)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        return iter(())  # heads are no factors to be drawn


class InductiveGAT(AttentionPredictor):
    """GAT for graphs that were never seen before (Velickovic et al., arXiv 1710.10903, section 3.3: PPI).

    Layers as in LSP's code: no bias, no dropout, a linear residual on all but the first. Arguments: see
    :class:`AttentionPredictor`.

    Args:
        in_channels: features of a node.
        num_classes: labels or classes.
        target: ``node_multi_label`` or ``node_class``.
        hidden_layers: beside the output layer.
        heads: of each hidden layer.
        channels: units of each head.
        out_heads: of the output layer.
        negative_slope: of the leaky ReLU on attention logits.
        logit_threshold: a label is predicted where its logit is above.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["node_multi_label", "node_class"],
        hidden_layers: PositiveInt,
        heads: PositiveInt,
        channels: PositiveInt,
        out_heads: PositiveInt,
        negative_slope: NonNegativeFloat,
        logit_threshold: float,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            target,
            hidden_layers,
            heads,
            channels,
            out_heads,
            negative_slope,
            logit_threshold,
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()
