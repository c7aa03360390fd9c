"""GCN: graph convolution with the symmetrically normalised adjacency."""

import torch.nn.functional as F
from torch import Tensor, nn

from harness.annotations import PositiveInt, Probability
from lightning_modules.node_classification.dense import class_log_probabilities
from lightning_modules.node_classification.graph import GraphInputs
from lightning_modules.node_classification.sparse import SparseLinear
from lightning_modules.segments import propagate


class GCN(nn.Module):
    """Two graph convolutions with ReLU between (Kipf and Welling, arXiv 1609.02907, Eq. 9).

    ``softmax(A relu(A drop(X) W0 + b0) W1 + b1)`` with ``A = D^-1/2 (A + I) D^-1/2``. The normalisation is
    PyG's ``gcn_norm``, computed once with the graph; the result equals PyG's ``GCNConv``, which scatters
    where this sums sorted rows.

    Args:
        in_channels: width of the features.
        hidden_channels: width of the hidden layer.
        num_classes: number of classes.
        dropout: dropout probability on the input of both layers.

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
        hidden = self.hidden.project(graph.features)  # [N, hidden_channels]
        hidden = F.relu(propagate(graph.gcn_weights, hidden, graph.edges) + self.hidden.bias)
        logits = propagate(graph.gcn_weights, self.output.project(hidden), graph.edges) + self.output.bias
        return class_log_probabilities(logits)
