"""MLP: the baseline that sees no edges."""

import torch.nn.functional as F
from torch import Tensor, nn

from harness.annotations import PositiveInt, Probability
from lightning_modules.node_classification.dense import class_log_probabilities
from lightning_modules.node_classification.graph import GraphInputs
from lightning_modules.node_classification.sparse import SparseLinear


class MLP(nn.Module):
    """Two linear layers with ReLU between, dropout on the input of both (GCN, arXiv 1609.02907, section 5).

    Args:
        in_channels: width of the features.
        hidden_channels: width of the hidden layer.
        num_classes: number of classes.
        dropout: dropout probability.

    Shapes:
        input a graph of N nodes; output ``[N, num_classes]``, log-probabilities.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        hidden_channels: PositiveInt,
        num_classes: PositiveInt,
        dropout: Probability,
    ) -> None:
        super().__init__()
        self.hidden = SparseLinear(in_channels, hidden_channels, dropout)
        self.output = SparseLinear(hidden_channels, num_classes, dropout)

    def forward(self, graph: GraphInputs) -> Tensor:
        """Log-probabilities of every node."""
        hidden = F.relu(self.hidden(graph.features))
        return class_log_probabilities(self.output(hidden))
