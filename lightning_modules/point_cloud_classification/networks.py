"""DGCNN: a network whose graph is made anew, in the space of its own features, before every layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.point_cloud_classification.edge_conv import EdgeConv
from lightning_modules.point_cloud_classification.knn import knn_graph

NEGATIVE_SLOPE = 0.2
"""Of every LeakyReLU; the authors' code."""


@dataclass(frozen=True, eq=False)
class EmbeddedClouds:
    """What :class:`DGCNN` makes of a batch of clouds.

    Attributes:
        logits: ``[B, num_classes]``.
        features: each EdgeConv's output, ``[B, n, C]`` of layer l's width.
        k: neighbours of a point.
    """

    logits: Tensor
    features: tuple[Tensor, ...]
    k: int
    _graphs: list[Tensor] = field(repr=False)

    def graph(self, layer: int) -> Tensor:
        """The nearest neighbours in the space of ``features[layer]``, ``[B, n, k]`` long.

        They are the very neighbours that the next EdgeConv has looked at, so nothing is computed again; after
        the last one, where no layer has asked for them, they are computed once.

        Args:
            layer: from 0 on, or from -1 backwards.

        Raises:
            IndexError: there is no such layer.
        """
        number = range(len(self.features))[layer]
        if number == len(self._graphs):
            self._graphs.append(knn_graph(self.features[number], self.k))
        return self._graphs[number]


class DGCNN(nn.Module):
    """Dynamic graph CNN for classification (Wang et al., arXiv 1801.07829, section 4.1).

    The published teacher is ``widths=(64, 64, 128, 256), embedding=1024, classifier=(512, 256), k=20``. As in
    the authors' code the first linear map of the classifier has no bias, the later ones have one.

    Args:
        in_channels: numbers that a point comes with, 3.
        num_classes: number of classes.
        widths: output of each EdgeConv.
        embedding: width of a point's embedding, made of all EdgeConv outputs.
        classifier: width of each hidden layer of the classifier, one or more.
        k: neighbours of a point, itself included.
        dropout: after each hidden layer of the classifier.

    Shapes:
        input ``[B, n, in_channels]`` with ``n >= k``; output :class:`EmbeddedClouds`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int],
        embedding: int,
        classifier: Sequence[int],
        k: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.k = k
        inputs = (in_channels, *widths[:-1])
        self.layers = nn.ModuleList(
            EdgeConv(before, after, NEGATIVE_SLOPE) for before, after in zip(inputs, widths, strict=True)
        )
        self.embed = nn.Linear(sum(widths), embedding, bias=False)
        self.embed_norm = nn.BatchNorm1d(embedding)
        blocks: list[nn.Module] = []
        before = 2 * embedding  # maximum and mean over points
        for number, width in enumerate(classifier):
            blocks += [nn.Linear(before, width, bias=number > 0), nn.BatchNorm1d(width)]
            blocks += [nn.LeakyReLU(NEGATIVE_SLOPE), nn.Dropout(dropout)]
            before = width
        self.classifier = nn.Sequential(*blocks, nn.Linear(before, num_classes))

    def forward(self, pos: Tensor) -> EmbeddedClouds:
        """Logits, and what the layers made on the way."""
        features: list[Tensor] = []
        graphs: list[Tensor] = []
        x = pos
        for layer in self.layers:
            graphs.append(knn_graph(x, self.k))
            x = layer(x, graphs[-1])
            features.append(x)
        points = torch.cat(features, dim=2)  # [B, n, sum of widths]
        flat = self.embed_norm(self.embed(points.flatten(0, 1)))  # [B*n, embedding]
        embedded = F.leaky_relu(flat, NEGATIVE_SLOPE).view(*points.shape[:2], -1)
        pooled = torch.cat([embedded.max(dim=1).values, embedded.mean(dim=1)], dim=1)
        # the first graph is that of the positions; the others are of the features before
        return EmbeddedClouds(self.classifier(pooled), tuple(features), self.k, graphs[1:])
