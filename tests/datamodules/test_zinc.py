"""ZINC: pickled tensors taken out without running code, the subset's graphs, bonds as factors."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import zinc
from datamodules.pickled_tensors import PickledTensor, load_with_tensors
from datamodules.zinc import ZINCDataModule, parse_index, parse_molecules
from harness.errors import UserError
from tests.datamodules.graph_files import zipped
from tests.datamodules.image_files import write

SIZES = {"train": 5, "val": 2, "test": 3}


class Attack:
    """Makes a folder when unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


class Reads:
    """Pickled, a call of torch's reader of storages with any content."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.content,)


class Claims:
    """Pickled, a tensor's call with any storage and shape."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        self.arguments = (storage, offset, size, stride, False, {})

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments


def molecule(generator: np.random.Generator, atoms: int) -> dict[str, Any]:
    """As in the published files: small integers, a symmetric matrix of bonds, a number in a vector."""
    upper = np.triu(generator.choice([0, 0, 1, 2, 3], size=(atoms, atoms)), 1)
    return {
        "num_atom": atoms,
        "atom_type": torch.from_numpy(generator.integers(0, 28, atoms).astype(np.int8)),
        "bond_type": torch.from_numpy((upper + upper.T).astype(np.int8)),
        "logP_SA_cycle_normalized": torch.tensor([float(generator.normal())]),
    }


def molecules(count: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [molecule(generator, int(generator.integers(1, 9))) for _ in range(count)]


def taken_out(value: Any) -> Any:
    return load_with_tensors(pickle.dumps(value), "data=toy: toy.pickle")


def tensor_of(value: Any) -> Tensor:
    """What the reader makes of a pickled object that claims to be a tensor."""
    held = taken_out([value])[0]
    assert isinstance(held, PickledTensor)
    return held.tensor()


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12, dtype=torch.int8).view(3, 4),
        torch.arange(12.0).view(3, 4).T,
        torch.arange(12)[5:7],
        torch.tensor(2.5, dtype=torch.float64),
        torch.empty(0, 3),
    ],
)
def test_tensors_come_out_as_they_went_in(tensor: Tensor, protocol: int) -> None:
    held = load_with_tensors(pickle.dumps({"a": [tensor]}, protocol=protocol), "data=toy: toy.pickle")
    made = held["a"][0].tensor()
    assert made.dtype == tensor.dtype
    assert torch.equal(made, tensor)
    assert made.stride() == tensor.stride()


def storage_bytes(numbers: list[int]) -> bytes:
    """A storage as torch's old format holds it."""
    (reader, (content,)) = torch.tensor(numbers, dtype=torch.int8)._typed_storage().__reduce__()
    assert reader is torch.storage._load_from_bytes
    assert isinstance(content, bytes)
    return content


@pytest.mark.parametrize("shape", [(0, (4,), (1,)), (1, (3,), (1,)), (0, (2, 2), (3, 1)), (9, (1,), (1,))])
def test_a_tensor_beyond_its_storage_is_refused(shape: tuple[Any, Any, Any]) -> None:
    storage = Reads(storage_bytes([1, 2, 3]))
    assert tensor_of(Claims(storage, 0, (3,), (1,))).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="beyond its storage of 3"):
        tensor_of(Claims(storage, *shape))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((-1, (2,), (1,)), "no proper shape"),
        ((0, (-2,), (1,)), "no proper shape"),
        ((0, (2,), (-1,)), "no proper shape"),
        ((0, 3, (1,)), "no proper shape"),
        ((0, (2.0,), (1,)), "no proper shape"),
        ((0, (2, 1), (1,)), "differ in length"),
    ],
)
def test_an_impossible_shape_is_refused(shape: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensor_of(Claims(Reads(storage_bytes([1, 2, 3])), *shape))


def test_a_storage_that_would_run_code_is_refused(tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save(Attack(tmp_path / "made"), inner, _use_new_zipfile_serialization=False)
    for content in (inner.getvalue(), pickle.dumps(Attack(tmp_path / "made")), b"no storage", b""):
        with pytest.raises(ValueError, match="storage was refused"):
            tensor_of(Claims(Reads(content), 0, (1,), (1,)))
    for other in (Reads(3), b"bytes", None):
        with pytest.raises(ValueError, match="no storage"):
            tensor_of(Claims(other, 0, (1,), (1,)))
    saved = io.BytesIO()
    torch.save({"a": 1}, saved, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="storage is a dict"):
        tensor_of(Claims(Reads(saved.getvalue()), 0, (1,), (1,)))
    assert not (tmp_path / "made").exists()


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refused: .* numbers, lists and tensors only, .*mkdir"):
        taken_out([Attack(tmp_path / "made")])
    assert not (tmp_path / "made").exists()


def parsed(rows: list[Any], *, self_loops: bool = False) -> Any:
    return parse_molecules(taken_out(rows), "data=toy: toy.pickle", self_loops=self_loops)


@pytest.mark.parametrize("self_loops", [True, False])
def test_bonds_are_edges_and_their_kinds_the_factors(self_loops: bool) -> None:
    rows = molecules(6)
    graphs = parsed(rows, self_loops=self_loops)
    assert len(graphs) == 6
    assert torch.equal(graphs.y, torch.cat([row["logP_SA_cycle_normalized"] for row in rows]))
    for number, row in enumerate(rows):
        batch = graphs.batch(torch.tensor([number]))
        assert torch.equal(batch["x"], row["atom_type"].long())
        dense = torch.zeros(row["num_atom"], row["num_atom"], dtype=torch.int8)
        kinds = (batch["edge_factors"] * torch.tensor([1, 2, 3])).sum(dim=1)
        dense[batch["edge_index"][0], batch["edge_index"][1]] = kinds.to(torch.int8)
        assert torch.equal(dense, row["bond_type"])
        extra = row["num_atom"] if self_loops else 0
        assert batch["edge_index"].size(1) == int((row["bond_type"] != 0).sum()) + extra


def test_molecules_equal_the_reference_reader(tmp_path: Path) -> None:
    rows = molecules(8, seed=1)
    for split in SIZES:
        write(tmp_path / "raw" / f"{split}.pickle", pickle.dumps(rows))
        write(tmp_path / "raw" / f"{split}.index", b"3,1,6\n")
    from torch_geometric.datasets import ZINC

    reference = ZINC(str(tmp_path), subset=True, split="val")
    graphs = parsed([rows[number] for number in (3, 1, 6)])
    assert len(reference) == len(graphs)
    for number, expected in enumerate(reference):
        batch = graphs.batch(torch.tensor([number]))
        expected = expected.sort(sort_by_row=False)
        assert torch.equal(batch["edge_index"], expected.edge_index)
        assert torch.equal(batch["edge_factors"].long().argmax(dim=1) + 1, expected.edge_attr)
        assert torch.equal(batch["x"], expected.x[:, 0])
        assert torch.equal(batch["y"], expected.y)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bond_type", torch.tensor([[0, 4], [4, 0]]), r"kinds of bonds are \[2, 4\]"),
        ("bond_type", torch.tensor([[0, -1], [-1, 0]]), r"kinds of bonds are \[-1, 2\]"),
        ("bond_type", torch.tensor([[1, 0], [0, 0]]), "bind an atom to itself"),
        ("bond_type", torch.tensor([[0, 1], [2, 0]]), "differ in their two directions"),
        ("bond_type", torch.tensor([[0, 1], [0, 0]]), "differ in their two directions"),
        ("bond_type", torch.zeros(3, 3), "2 atoms have bonds of shape"),
        ("bond_type", torch.zeros(2), "2 atoms have bonds of shape"),
        ("bond_type", [[0, 1], [1, 0]], "no tensor bond_type"),
        ("atom_type", torch.tensor([-1, 2]), "2 atoms have bonds"),
        ("logP_SA_cycle_normalized", torch.tensor([1.0, 2.0]), "only one element"),
        ("logP_SA_cycle_normalized", 1.0, "no tensor logP"),
    ],
)
def test_a_broken_molecule_is_a_users_mistake(key: str, value: Any, message: str) -> None:
    good = {
        "atom_type": torch.tensor([0, 1]),
        "bond_type": torch.tensor([[0, 2], [2, 0]]),
        "logP_SA_cycle_normalized": torch.tensor([0.5]),
    }
    assert parsed([good]).edge_factors.tolist() == [[False, True, False]] * 2
    with pytest.raises(UserError, match=rf"toy\.pickle is broken: .*{message}"):
        parsed([good, {**good, key: value}])
    with pytest.raises(UserError, match="no tensor atom_type"):
        parsed([good, "a word"])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"1,2\n", "2 different"),
        (b"1,2,2\n", "2 different"),
        (b"1,2,9\n", "3 different"),
        (b"-1,2,3\n", "3 different"),
        (b"1,2,x\n", "no list of numbers"),
        (b"\xff", "no list of numbers"),
        (b"", "no list of numbers"),
    ],
)
def test_a_list_that_names_no_subset_is_refused(content: bytes, fault: str) -> None:
    assert parse_index(b"1,0,8\r\n", 9, 3, "toy.index") == [1, 0, 8]
    with pytest.raises(UserError, match=rf"toy\.index has to name 3 of 9 molecules, but .*{fault}"):
        parse_index(content, 9, 3, "toy.index")


def module(root: Path, **keywords: Any) -> ZINCDataModule:
    settings: dict[str, Any] = {
        "in_channels": 28,
        "num_classes": 1,
        "target": "value",
        "folds": 1,
        "protocol": "gin",
        "self_loops": False,
    }
    settings |= {"batch_size": 4, "seed": 0}
    return ZINCDataModule(str(root), str(root / "cache"), **{**settings, **keywords})


def put(root: Path, rows: dict[str, Any]) -> None:
    write(
        root / "ZINC/molecules.zip",
        zipped({f"molecules/{split}.pickle": pickle.dumps(value) for split, value in rows.items()}),
    )
    for split, size in SIZES.items():
        numbers = ",".join(str(number) for number in reversed(range(1, size + 1)))
        write(root / f"ZINC/{split}.index", f"{numbers}\n".encode())


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zinc, "_SIZES", SIZES)


@pytest.mark.usefixtures("_small")
def test_splits_hold_the_listed_molecules_in_the_lists_order(tmp_path: Path) -> None:
    rows = {split: molecules(9, seed) for seed, split in enumerate(SIZES)}
    put(tmp_path, rows)
    data = module(tmp_path)
    data.prepare_data()
    data.setup()
    assert {split: len(part) for split, part in data.splits.items()} == SIZES
    for split, size in SIZES.items():
        chosen = [rows[split][number] for number in range(size, 0, -1)]
        expected = torch.cat([row["logP_SA_cycle_normalized"] for row in chosen])
        assert torch.equal(data.splits[split].y, expected)
    every = [number for part in data.splits.values() for number in part.index.tolist()]
    assert every == list(range(10))
    assert data.factor_names == ("single", "double", "triple")
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].dtype == torch.long
    assert batch["y"].shape == (4,)
    records = {path.name for path in (tmp_path / "cache/hashes/ZINC").glob("*.sha256")}
    assert records == {"molecules.zip.sha256", *(f"{split}.index.sha256" for split in SIZES)}


@pytest.mark.usefixtures("_small")
def test_a_hostile_archive_runs_nothing(tmp_path: Path) -> None:
    rows: dict[str, Any] = {split: molecules(9) for split in SIZES}
    inner = io.BytesIO()
    torch.save(Attack(tmp_path / "made"), inner, _use_new_zipfile_serialization=False)
    hidden = {**molecules(1)[0], "atom_type": Claims(Reads(inner.getvalue()), 0, (1,), (1,))}
    for place, attack in (
        ({"train": [Attack(tmp_path / "made")]}, "refused"),
        ({"val": [hidden] * 9}, "broken"),
    ):
        (tmp_path / "cache/hashes/ZINC/molecules.zip.sha256").unlink(missing_ok=True)
        put(tmp_path, rows | place)
        with pytest.raises(UserError, match=attack):
            module(tmp_path).setup()
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("_small")
def test_more_types_than_stated_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {split: molecules(9) for split in SIZES})
    with pytest.raises(UserError, match=r"data\.in_channels=5 is too narrow"):
        module(tmp_path, in_channels=5).setup()


def test_without_network_the_way_out_is_told(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match=r"ZINC/molecules\.zip is neither .* use data=factor_graphs"):
        module(tmp_path).prepare_data()
