"""FactorGCN's network: factorising layers in the common frame, and a discriminator for each."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_modules.factorgcn.layers import DegreeNorm, FactorDiscriminator, FactorGraphConv
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.networks import Frame, GraphNetwork, LayerOutput


class FactorNetwork(GraphNetwork):
    """A :class:`GraphNetwork` of :class:`FactorGraphConv` layers.

    Args:
        frame: everything but the layers.
        factors: K of each layer; divides ``frame.hidden_channels``.
        temperature: of the sigmoid that splits an edge.
        norm: whose degrees divide a neighbour.
    """

    def __init__(self, frame: Frame, factors: Sequence[int], temperature: float, norm: DegreeNorm) -> None:
        hidden = frame.hidden_channels

        def make_layer(number: int, in_channels: int) -> FactorGraphConv:
            return FactorGraphConv(in_channels, hidden, factors[number], temperature, norm)

        super().__init__(frame, make_layer)
        # drawn last, so that a network without them would begin with the same weights
        self.discriminators = nn.ModuleList(
            # one factor is always recognised, and DDP wants no parameter without a gradient
            FactorDiscriminator(hidden // count, count) if count > 1 else nn.Identity()
            for count in factors
        )

    def recognise(self, number: int, found: LayerOutput, graphs: Graphs) -> Tensor:
        """Logits ``[B, K, K]`` of the discriminator of layer ``number``, from 0 on."""
        logits: Tensor = self.discriminators[number](found, graphs)
        return logits
