"""ZINC, the subset of 12,000 molecules: atoms, bonds and the penalised logP of each.

Source: Irwin et al., "ZINC", 2012, as graphs by Dwivedi et al., "Benchmarking graph neural networks", arXiv
2003.00982 (github.com/graphdeeplearning/benchmarking-gnns, MIT licence). No licence of the data was found.

The archive holds about 250,000 molecules as pickles of tensors; three lists of numbers name those of the
subset. No SHA-256 of any of them is published: the first one used is recorded, and any later one must equal
it. The reader admits numbers, lists and tensors and nothing else.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.graph_sets import GraphSet, GraphSetDataModule, Split, make_graph_set
from datamodules.pickled_tensors import PickledTensor, load_with_tensors
from datamodules.zip_members import zip_members
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

# Molecules of each split.
_SIZES: dict[Split, int] = {"train": 10_000, "val": 1_000, "test": 1_000}
_ARCHIVE = RemoteFile("ZINC/molecules.zip", "https://www.dropbox.com/s/feo9qle74kg48gy/molecules.zip?dl=1")
_LISTS = {
    split: RemoteFile(
        f"ZINC/{split}.index",
        "https://raw.githubusercontent.com/graphdeeplearning/benchmarking-gnns/master/data/molecules/"
        f"{split}.index",
    )
    for split in _SIZES
}
_LARGEST = 4 << 30  # bytes of a pickle; that of 220,011 molecules is the largest

BONDS = ("single", "double", "triple")
"""Of the numbers 1, 2 and 3 in the files; there is no aromatic kind."""


class ZINCDataModule(GraphSetDataModule):
    """Molecules in the published split; an atom's type is its input, the kinds of bonds are the true factors.

    Graphs, types and targets equal those of ``torch_geometric.datasets.ZINC(subset=True)``.

    Args:
        root: folder of data sets; the archive and the three lists lie in ``ZINC``.
        cache: where downloads go when ``root`` is read-only, and what hashes were found.
        in_channels: types of atoms.
        num_classes: 1, the number that is predicted.
        target: what is predicted, a value.
        folds: 1, there is a fixed split.
        protocol: of a cross-validation, which there is none.
        self_loops: adds one to each node.
        batch_size: molecules of one optimiser step, over all processes.
        seed: of the order.
    """

    def __init__(
        self,
        root: str,
        cache: str,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["value"],
        folds: Literal[1],
        protocol: Literal["gin"],
        self_loops: bool,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            "zinc",
            in_channels,
            num_classes,
            target,
            batch_size,
            seed,
            class_names=("penalised logP",),
            factor_names=BONDS,
        )
        self.root = root
        self.cache = cache
        self.self_loops = self_loops

    def prepare_data(self) -> None:
        """Downloads what is missing and verifies everything.

        Raises:
            UserError: see :func:`datamodules.download.fetch`.
        """
        fetch(self.choice, [_ARCHIVE, *_LISTS.values()], self.root, self.cache, stand_in="factor_graphs")

    def build(self) -> dict[Split, GraphSet]:
        archive = read_verified(self.choice, _ARCHIVE, self.root, self.cache)
        splits: dict[Split, GraphSet] = {}
        first = 0
        for split, size in _SIZES.items():
            listed = read_verified(self.choice, _LISTS[split], self.root, self.cache)
            member, label = f"molecules/{split}.pickle", f"data=zinc: {_ARCHIVE.path}"
            pickled = zip_members(archive, [member], _LARGEST, label)[member]
            molecules = load_with_tensors(pickled, f"{label}: {member}")
            chosen = parse_index(listed, len(molecules), size, f"data=zinc: {_LISTS[split].path}")
            graphs = parse_molecules(
                [molecules[number] for number in chosen], f"{label}: {member}", self_loops=self.self_loops
            )
            splits[split] = replace(graphs, index=graphs.index + first)
            first += size
        return splits


def parse_index(content: bytes, num_molecules: int, size: int, label: str) -> list[int]:
    """The numbers of the molecules of a split.

    Args:
        content: numbers with commas between them.
        num_molecules: how many there are to choose from.
        size: how many have to be chosen.
        label: which file, for the message.

    Raises:
        UserError: it is no such list.
    """
    try:
        chosen = [int(word) for word in content.decode("ascii").split(",")]
    except ValueError as error:
        chosen, fault = [], f"it is no list of numbers ({error})"
    else:
        fault = f"it has {len(set(chosen))} different numbers"
    if len(set(chosen)) != size or len(chosen) != size or min(chosen) < 0 or max(chosen) >= num_molecules:
        raise UserError(
            f"{label} has to name {size} of {num_molecules} molecules, but {fault}. "
            "Delete it and run again to download it."
        )
    return chosen


def parse_molecules(molecules: Sequence[Any], label: str, *, self_loops: bool) -> GraphSet:
    """Graphs of some molecules.

    Args:
        molecules: dictionaries with ``atom_type`` ``[n]``, ``bond_type`` ``[n, n]``, 0 where there is no
            bond, and ``logP_SA_cycle_normalized``, one number, as pickled tensors.
        label: which file, for the message.
        self_loops: adds one to each node.

    Raises:
        UserError: a molecule is something else.
    """
    types: list[Tensor] = []
    values: list[float] = []
    ends: list[NDArray[np.int64]] = []
    bonds: list[NDArray[np.int64]] = []
    first = 0
    try:
        for molecule in molecules:
            atom_type, bond_type, value = (
                _tensor(molecule, key) for key in ("atom_type", "bond_type", "logP_SA_cycle_normalized")
            )
            atoms = atom_type.long().reshape(-1)  # [n]
            matrix = bond_type.numpy().astype(np.int64)
            if matrix.shape != (len(atoms), len(atoms)) or not len(atoms) or int(atoms.min()) < 0:
                raise ValueError(f"{len(atoms)} atoms have bonds of shape {matrix.shape}")
            if (matrix != matrix.T).any() or matrix.diagonal().any():
                raise ValueError("bonds differ in their two directions, or bind an atom to itself")
            places = np.nonzero(matrix)
            types.append(atoms)
            values.append(float(value))
            ends.append(np.stack(places) + first)
            bonds.append(matrix[places])
            first += len(atoms)
        source, target = np.concatenate(ends, axis=1)
        kinds = np.concatenate(bonds)
        if not np.isin(kinds, (1, 2, 3)).all():
            raise ValueError(f"kinds of bonds are {sorted(set(kinds.tolist()))} where 1, 2 and 3 are known")
        return make_graph_set(
            torch.cat(types),
            np.array([len(atoms) for atoms in types], np.int64),
            source,
            target,
            torch.tensor(values, dtype=torch.float32),  # [G]
            kinds[:, None] == np.arange(1, len(BONDS) + 1),  # [M, 3]
            self_loops=self_loops,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{label} is broken: {error}. Delete it and run again to download it.") from error


def _tensor(molecule: Any, key: str) -> Tensor:
    value = molecule.get(key) if isinstance(molecule, dict) else None
    if not isinstance(value, PickledTensor):
        raise ValueError(f"a molecule has no tensor {key}")
    return value.tensor()
