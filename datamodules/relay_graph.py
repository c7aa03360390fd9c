"""The relay graph: a signal two hops away which attention to direct neighbours cannot see.

Source: the stand-in of the SPAGAN specification. Forty signals, each joined to its relay, each relay to four
leaves: 240 nodes in 40 components. The class of a component, its number mod 4, shows in the features of
its signal only, and only leaves are labelled. A single path layer that sees paths of three nodes solves
it; with paths of two it has noise alone to go by.
"""

import numpy as np
import torch
from torch_geometric.data import Data

from datamodules.graph import GraphDataModule, make_graph, undirected_edge_index
from harness.annotations import NonNegativeInt, PositiveInt

_NUM_SIGNALS, _LEAVES_PER_RELAY, _NUM_CLASSES, _CHANNELS = 40, 4, 4, 8
_NOISE = 0.3  # standard deviation of every feature
_STRENGTH = 2.0  # what a signal adds to the coordinate of its class


class RelayGraphDataModule(GraphDataModule):
    """Signals 0..39, relays 40..79, leaves 80..239.

    Train on the leaves of relays 0-19, test on those of relays 20-39. The protocol has no validation set, so
    ``val_mask`` is empty: train for a fixed number of steps and keep the last weights.

    Args:
        in_channels: features per node, 8.
        num_classes: 4.
        graph_seed: seed of the noise, and of nothing else.
    """

    tasks = ("node_classification",)

    def __init__(
        self, in_channels: PositiveInt, num_classes: PositiveInt, graph_seed: NonNegativeInt
    ) -> None:
        super().__init__("relay_graph", in_channels, num_classes)
        self.graph_seed = graph_seed

    def build(self) -> Data:
        signals = np.arange(_NUM_SIGNALS)
        relays = signals + _NUM_SIGNALS
        leaf_owner = np.repeat(signals, _LEAVES_PER_RELAY)  # [leaves], component of each leaf
        leaves = 2 * _NUM_SIGNALS + np.arange(len(leaf_owner))
        y = np.concatenate([signals, signals, leaf_owner]) % _NUM_CLASSES
        features = np.random.default_rng(self.graph_seed).normal(0.0, _NOISE, (len(y), _CHANNELS))
        features[signals, y[signals]] += _STRENGTH
        edge_index = undirected_edge_index(
            np.concatenate([signals, relays[leaf_owner]]), np.concatenate([relays, leaves]), len(y)
        )
        seen = leaf_owner < _NUM_SIGNALS // 2
        x = torch.from_numpy(features.astype(np.float32))
        return make_graph(x, edge_index, y, leaves[seen], np.empty(0, np.int64), leaves[~seen])
