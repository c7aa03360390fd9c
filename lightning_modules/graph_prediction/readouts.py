"""From features of nodes to predictions of graphs, or of nodes."""

from collections.abc import Sequence

from torch import Tensor, nn

from harness.annotations import PositiveInt, Probability
from lightning_modules.graph_prediction.batch import Graphs


class MeanReadout(nn.Module):
    """``Linear(tanh(mean over nodes))``: FactorGCN's network for the synthetic set, its authors' code.

    Args:
        in_channels: width of the last level.
        out_channels: predictions C.

    Shapes:
        input ``[n, F]`` of each level, of which the last counts; output ``[B, C]``.
    """

    def __init__(self, in_channels: PositiveInt, out_channels: PositiveInt) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, levels: Sequence[Tensor], graphs: Graphs) -> Tensor:
        out: Tensor = self.linear(graphs.pooled_mean(levels[-1]).tanh())
        return out


class JumpingReadout(nn.Module):
    """Sum over levels of ``dropout(Linear(sum over nodes))``, as GIN's code does (arXiv 1810.00826, Eq. 4.2).

    Args:
        in_channels: width of each level, that of the input first.
        out_channels: predictions C.
        dropout: on each level's contribution.

    Shapes:
        input ``[n, F_l]`` of each level l; output ``[B, C]``.
    """

    def __init__(
        self, in_channels: Sequence[PositiveInt], out_channels: PositiveInt, dropout: Probability
    ) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(width, out_channels) for width in in_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, levels: Sequence[Tensor], graphs: Graphs) -> Tensor:
        parts = [
            self.dropout(linear(graphs.pooled_sum(x))) for linear, x in zip(self.linears, levels, strict=True)
        ]
        total: Tensor = sum(parts[1:], parts[0])
        return total


class MLPReadout(nn.Module):
    """Two linear layers after ReLU, on the mean over nodes or on each node (benchmarking-gnns, 2003.00982).

    Args:
        in_channels: width of the last level.
        out_channels: predictions C.
        of_nodes: predicts each node, not each graph.

    Shapes:
        input ``[n, F]`` of each level, of which the last counts; output ``[B, C]``, or ``[n, C]`` of nodes.
    """

    def __init__(self, in_channels: PositiveInt, out_channels: PositiveInt, of_nodes: bool) -> None:
        super().__init__()
        self.of_nodes = of_nodes
        self.first = nn.Linear(in_channels, in_channels // 2)
        self.second = nn.Linear(in_channels // 2, out_channels)

    def forward(self, levels: Sequence[Tensor], graphs: Graphs) -> Tensor:
        x = levels[-1] if self.of_nodes else graphs.pooled_mean(levels[-1])
        out: Tensor = self.second(self.first(x.relu()).relu())
        return out
