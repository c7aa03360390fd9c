"""Cora, CiteSeer and PubMed with the public split of Planetoid.

Source: the LINQS citation sets (Sen et al., "Collective classification in network data", 2008) in the files
and split of Yang et al., "Revisiting semi-supervised learning with graph embeddings", ICML 2016
(github.com/kimiyoung/planetoid).

The files are pickles of Python 2. Their SHA-256 is checked before they are opened, and even then the reader
admits numpy arrays, sparse matrices and dictionaries of lists and nothing else.

Hashes: Cora's and CiteSeer's are of the original files; PubMed's agree in three independent public
records, whose hashes of the other two sets are the original files' too.
"""

from collections import defaultdict
from typing import Any, Literal

import numpy as np
import scipy.sparse
from torch_geometric.data import Data

from datamodules import restricted_pickle
from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.graph import GraphDataModule, make_graph, row_normalised, undirected_edge_index
from datamodules.restricted_pickle import ARRAYS
from harness.annotations import PositiveInt

_URL = "https://raw.githubusercontent.com/kimiyoung/planetoid/master/data"
_NUM_VAL = 500  # of the public split: the nodes that follow the training nodes

_SHA256 = {
    "Cora": {
        "x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    },
    "CiteSeer": {
        "x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    },
    "PubMed": {
        "x": "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
        "tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
        "ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
    },
}

# The files number the classes; the names follow from the sizes that LINQS gives for each topic (Cora: 351
# Theory, 217 Reinforcement_Learning, ...). PubMed's order is not certain, and wrong names are worse than
# none.
_CLASS_NAMES: dict[str, tuple[str, ...] | None] = {
    "Cora": (
        "Theory",
        "Reinforcement_Learning",
        "Genetic_Algorithms",
        "Neural_Networks",
        "Probabilistic_Methods",
        "Case_Based",
        "Rule_Learning",
    ),
    "CiteSeer": ("AI", "ML", "IR", "DB", "Agents", "HCI"),
    "PubMed": None,
}


class PlanetoidDataModule(GraphDataModule):
    """A citation network: papers, citations, bags of words, the paper's topic as class.

    Equals ``torch_geometric.datasets.Planetoid(name)`` with row-normalised features, held sparse throughout:
    training nodes are the first |y|, validation the next 500, test those of ``test.index``. CiteSeer's
    test nodes have gaps; the missing ones get no words, class 0 and no place in any mask.

    Args:
        name: which of the three.
        root: folder of data sets, files lie in ``<root>/planetoid/<name>/raw``.
        cache: where downloads go when ``root`` is read-only.
        in_channels: words in the vocabulary.
        num_classes: topics.
    """

    tasks = ("node_classification",)

    def __init__(
        self,
        name: Literal["Cora", "CiteSeer", "PubMed"],
        root: str,
        cache: str,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
    ) -> None:
        super().__init__(name.lower(), in_channels, num_classes, _CLASS_NAMES[name])
        self.root = root
        self.cache = cache
        self.files = planetoid_files(name)

    def prepare_data(self) -> None:
        """Downloads what is missing and verifies everything.

        Raises:
            UserError: see :func:`datamodules.download.fetch`.
        """
        fetch(self.choice, list(self.files.values()), self.root, self.cache)

    def build(self) -> Data:
        content = {
            part: read_verified(self.choice, file, self.root, self.cache) for part, file in self.files.items()
        }
        return parse_planetoid(self.choice, content)


def planetoid_files(name: str) -> dict[str, RemoteFile]:
    """The eight files of a set, by the part after ``ind.<name>.``."""
    return {
        part: RemoteFile(
            f"planetoid/{name}/raw/ind.{name.lower()}.{part}", f"{_URL}/ind.{name.lower()}.{part}", (sha256,)
        )
        for part, sha256 in _SHA256[name].items()
    }


def parse_planetoid(name: str, content: dict[str, bytes]) -> Data:
    """The graph from the contents of the eight files.

    Args:
        name: for messages.
        content: bytes of ``allx, tx, ally, ty, y, graph, test.index``.

    Raises:
        UserError: a pickle holds something other than arrays, sparse matrices and lists.
    """
    allx, tx, ally, ty, y, links = (
        load_restricted(content[part], f"data={name}: ind.{name}.{part}")
        for part in ("allx", "tx", "ally", "ty", "y", "graph")
    )
    test = np.array(content["test.index"].split(), dtype=np.int64)
    num_nodes = max(len(links), int(test.max()) + 1)
    # Row of the stacked files that describes each node; the test files have an order of their own, and
    # nodes named by no file take the row of zeros at the end.
    rows = np.full(num_nodes, allx.shape[0] + tx.shape[0])
    rows[: allx.shape[0]] = np.arange(allx.shape[0])
    rows[test] = allx.shape[0] + np.arange(len(test))
    blank = scipy.sparse.csr_matrix((1, allx.shape[1]), dtype=allx.dtype)
    features = scipy.sparse.vstack([allx, tx, blank], format="csr")[rows]
    one_hot = np.concatenate([ally, ty, np.zeros((1, ally.shape[1]), dtype=ally.dtype)])[rows]
    centres = np.repeat(np.fromiter(links, np.int64), [len(ends) for ends in links.values()])
    neighbours = np.fromiter((end for ends in links.values() for end in ends), np.int64)
    return make_graph(
        row_normalised(features),
        undirected_edge_index(centres, neighbours, num_nodes),
        one_hot.argmax(axis=1),
        train=np.arange(len(y)),
        val=np.arange(len(y), len(y) + _NUM_VAL),
        test=test,
    )


class _SparseState:
    """Stands in for a pickled csr_matrix: only takes in its arrays, whatever SciPy wrote them."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        shape = state.get("_shape", state.get("shape"))
        self.matrix = scipy.sparse.csr_matrix((state["data"], state["indices"], state["indptr"]), shape)


_ADMITTED: dict[tuple[str, str], Any] = ARRAYS | {
    ("scipy.sparse.csr", "csr_matrix"): _SparseState,
    ("scipy.sparse._csr", "csr_matrix"): _SparseState,
    ("collections", "defaultdict"): defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("__builtin__", "int"): int,
    ("builtins", "int"): int,
}


def load_restricted(content: bytes, label: str) -> Any:
    """An array, a ``csr_matrix`` or a dictionary of lists from a pickle that may hold nothing else.

    Args:
        content: the pickle; Python 2 strings are read as latin1, as numpy needs.
        label: which file, for the message.

    Raises:
        UserError: the pickle asks for any other class or function, or is broken.
    """
    value = restricted_pickle.load_restricted(content, label, _ADMITTED, "arrays, sparse matrices and lists")
    return value.matrix if isinstance(value, _SparseState) else value
