"""ModelNet: points drawn from meshes in folders and archives, points in HDF5 files, what is kept of them."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import modelnet, modelnet_files
from datamodules.modelnet import ModelNetDataModule
from datamodules.modelnet_files import meshes_of_folder, sample_mesh
from harness.errors import UserError
from tests.datamodules.graph_files import zipped
from tests.datamodules.image_files import sha256, write

CLASSES = ("bed", "chair", "night_stand")
TRAIN, TEST = 4, 2  # of each class
NAME = "chair/train/chair_0001.off"


def mesh(class_number: int, number: int, *, broken_header: bool = False) -> bytes:
    """A box of its own size, its longest side telling the class."""
    sides = np.ones(3)
    sides[class_number] = 3 + 0.1 * number
    corners = [[x, y, z] for x in (0, sides[0]) for y in (0, sides[1]) for z in (0, sides[2])]
    squares = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    faces = [half for a, b, c, d in squares for half in ((a, b, c), (a, c, d))]
    lines = [" ".join(map(str, corner)) for corner in corners]
    lines += ["3 " + " ".join(map(str, face)) for face in faces]
    return ("OFF" + ("" if broken_header else "\n") + "8 12 0\n" + "\n".join(lines) + "\n").encode()


def meshes(folder: str = "ModelNet10") -> dict[str, bytes]:
    """A small set in the published layout, with what a Mac adds."""
    made: dict[str, bytes] = {f"{folder}/README.txt": b"", f"{folder}/.DS_Store": b"\0"}
    made[f"__MACOSX/{folder}/bed/train/._bed_0001.off"] = b"\0"
    for label, name in enumerate(CLASSES):
        for part, count, first in (("train", TRAIN, 1), ("test", TEST, 1 + TRAIN)):
            for number in range(first, first + count):
                content = mesh(label, number, broken_header=number == 2)
                made[f"{folder}/{name}/{part}/{name}_{number:04d}.off"] = content
    return made


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three classes of six models, whose archive is the published one."""
    for name, known in list(modelnet._SETS.items()):
        archive = dataclasses.replace(known.archive, sha256=(sha256(zipped(meshes(known.folder))),))
        counts = (len(CLASSES) * TRAIN, len(CLASSES) * TEST)
        small = dataclasses.replace(
            known,
            archive=archive,
            class_names=CLASSES,
            meshes=counts,
            hdf5=None if known.hdf5 is None else counts,
        )
        monkeypatch.setitem(modelnet._SETS, name, small)


def module(root: Path, **keywords: Any) -> ModelNetDataModule:
    settings: dict[str, Any] = {"name": "modelnet10", "source": "auto", "num_points": 32, "num_classes": 3}
    settings |= {"num_val": 3, "split_seed": 0, "sample_seed": 0, "batch_size": 4, "augment": "none"}
    settings |= {"drop_last": False, "seed": 0}
    return ModelNetDataModule(root=str(root), cache=str(root / "cache"), **{**settings, **keywords})


def loaded(root: Path, **keywords: Any) -> ModelNetDataModule:
    data = module(root, **keywords)
    data.prepare_data()
    data.setup()
    return data


def unpacked(root: Path, folder: str = "ModelNet10") -> None:
    for name, content in meshes(folder).items():
        write(root / name, content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    unpacked(tmp_path)
    return tmp_path


def test_the_sets_are_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    forty, ten = modelnet._SETS["modelnet40"], modelnet._SETS["modelnet10"]
    assert (len(forty.class_names), len(ten.class_names)) == (40, 10)
    assert set(ten.class_names) < set(forty.class_names)
    for known in (forty, ten):
        assert list(known.class_names) == sorted(known.class_names)
        assert known.archive.url.startswith("https://")
        assert known.archive.url.endswith(f"/{known.folder}.zip")
        assert not known.archive.on_trust


def test_splits_hold_every_class_with_its_share_and_each_model_once(folder: Path) -> None:
    data = loaded(folder)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 9, "val": 3, "test": 6}
    for part in data.splits.values():
        assert len(set(part.labels.bincount().tolist())) == 1
    train = torch.cat([data.splits["train"].index, data.splits["val"].index])
    assert sorted(train.tolist()) == list(range(12))
    assert data.splits["test"].index.tolist() == list(range(12, 18))
    assert data.class_names == CLASSES
    assert "val" not in loaded(folder, num_val=0).splits
    again, other = loaded(folder, seed=5), loaded(folder, split_seed=1)
    assert torch.equal(again.splits["val"].index, data.splits["val"].index)
    assert not torch.equal(other.splits["val"].index, data.splits["val"].index)


def test_points_are_those_of_the_model_and_class_in_the_unit_sphere(folder: Path) -> None:
    data = loaded(folder, num_val=0)
    for part in data.splits.values():
        torch.testing.assert_close(part.pos.norm(dim=2).amax(dim=1), torch.ones(len(part)))
        spread = part.pos.amax(dim=1) - part.pos.amin(dim=1)
        assert torch.equal(spread.argmax(dim=1), part.labels), "the longest side of its box"
    # the third model to train, of the second class in order
    content = (folder / "ModelNet10/chair/train/chair_0003.off").read_bytes()
    expected = sample_mesh(content, 32, 0, "chair/train/chair_0003.off", "a mesh")
    assert np.array_equal(data.splits["train"].pos[TRAIN + 2].numpy(), expected)


def test_points_follow_from_the_seed_and_the_name_of_the_file_alone() -> None:
    content = mesh(1, 1)
    first = sample_mesh(content, 32, 0, NAME, "a mesh")
    np.random.seed(3)
    assert np.array_equal(sample_mesh(content, 32, 0, NAME, "a mesh"), first)
    assert not np.array_equal(sample_mesh(content, 32, 1, NAME, "a mesh"), first)
    assert not np.array_equal(sample_mesh(content, 32, 0, NAME.replace("1", "2"), "a mesh"), first)


def test_the_archive_gives_the_same_clouds_as_the_folder(tmp_path: Path) -> None:
    unpacked(tmp_path / "one")
    write(tmp_path / "two/ModelNet10.zip", zipped(meshes()))
    one, two = loaded(tmp_path / "one"), loaded(tmp_path / "two")
    for split, part in one.splits.items():
        for name in ("pos", "labels", "index"):
            assert torch.equal(getattr(part, name), getattr(two.splits[split], name))
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"ModelNet10.zip", "cache"}


def test_points_are_drawn_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(folder)

    def never(*args: Any) -> None:
        raise AssertionError("drawn again")

    drawing = modelnet.sample_mesh
    monkeypatch.setattr(modelnet, "sample_mesh", never)
    assert torch.equal(loaded(folder, seed=3).splits["train"].pos, first.splits["train"].pos)
    (kept,) = (folder / "cache/sampled").glob("*.npy")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    for others in ({}, {"num_points": 16}, {"sample_seed": 1}):
        with pytest.raises(AssertionError, match="drawn again"):
            loaded(folder, **others)
    monkeypatch.setattr(modelnet, "sample_mesh", drawing)
    assert torch.equal(loaded(folder).splits["train"].pos, first.splits["train"].pos), "a damaged file"


def test_what_was_drawn_of_the_archive_needs_it_no_more(tmp_path: Path, no_network: None) -> None:
    write(tmp_path / "ModelNet10.zip", zipped(meshes()))
    first = loaded(tmp_path)
    (tmp_path / "ModelNet10.zip").unlink()
    assert torch.equal(loaded(tmp_path).splits["test"].pos, first.splits["test"].pos)
    with pytest.raises(UserError, match=r"ModelNet10\.zip is neither"):
        loaded(tmp_path, sample_seed=1)


def test_a_changed_folder_is_drawn_from_again(folder: Path) -> None:
    first = loaded(folder, num_val=0)
    write(folder / "ModelNet10" / NAME, mesh(1, 300))
    changed = loaded(folder, num_val=0)
    differs = (changed.splits["train"].pos != first.splits["train"].pos).flatten(1).any(dim=1)
    assert differs.nonzero().flatten().tolist() == [TRAIN]


def test_without_network_the_way_out_is_told_in_one_line(tmp_path: Path, no_network: None) -> None:
    for name in ("modelnet10", "modelnet40"):
        with pytest.raises(UserError, match=r"ModelNet\d0\.zip is neither .* data=mini_modelnet") as told:
            module(tmp_path, name=name).prepare_data()
        assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_an_archive_of_another_hash_is_not_opened(tmp_path: Path) -> None:
    content = zipped(meshes())
    write(tmp_path / "ModelNet10.zip", content[:-30])
    with pytest.raises(UserError, match=r"ModelNet10\.zip is not the published file"):
        module(tmp_path).prepare_data()
    with pytest.raises(UserError, match=r"ModelNet10\.zip is not the published file"):
        module(tmp_path).setup()


def published(monkeypatch: pytest.MonkeyPatch, root: Path, content: bytes) -> None:
    """Makes ``content`` the published archive and puts it into its place."""
    known = modelnet._SETS["modelnet10"]
    archive = dataclasses.replace(known.archive, sha256=(sha256(content),))
    monkeypatch.setitem(modelnet._SETS, "modelnet10", dataclasses.replace(known, archive=archive))
    write(root / "ModelNet10.zip", content)


def test_a_broken_archive_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped(meshes())
    published(monkeypatch, tmp_path, content[:-30])
    with pytest.raises(UserError, match=r"ModelNet10\.zip cannot be unpacked"):
        loaded(tmp_path)
    damaged = bytearray(content)
    place = content.index(b"ModelNet10/bed/train/bed_0001.off") + 40
    damaged[place : place + 8] = bytes(8)
    published(monkeypatch, tmp_path, bytes(damaged))
    with pytest.raises(UserError, match=r"ModelNet10\.zip cannot be unpacked"):
        loaded(tmp_path)
    assert not list((tmp_path / "cache").rglob("*.npy")), "no half of it is kept"
    published(monkeypatch, tmp_path, content)
    monkeypatch.setattr(modelnet_files, "_LARGEST", 100)
    with pytest.raises(UserError, match=r"would take \d+ bytes"):
        loaded(tmp_path)


def test_a_folder_that_is_not_the_set_is_refused(folder: Path) -> None:
    (folder / "ModelNet10" / NAME).unlink()
    with pytest.raises(UserError, match="holds 11 models to train and 6 to test where 12 and 6"):
        loaded(folder)
    write(folder / "ModelNet10/piano/train/piano_0001.off", mesh(0, 0))
    with pytest.raises(UserError, match="holds the class piano"):
        loaded(folder)
    for path in (folder / "ModelNet10").rglob("*.off"):
        path.unlink()
    with pytest.raises(UserError, match="lacks the class bed"):
        loaded(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"solid", "is no mesh in OFF format"),
        (b"OFF\n3 1 0\n0 0 0\n0 0 0\n0 0 0\n3 0 1 2\n", "no points to draw: its surface has no area"),
    ],
)
def test_a_mesh_without_a_surface_is_named(folder: Path, content: bytes, message: str) -> None:
    write(folder / "ModelNet10" / NAME, content)
    with pytest.raises(UserError, match=rf"{NAME} .*{message}"):
        loaded(folder)


def test_a_cache_that_cannot_be_written_is_a_users_mistake(folder: Path) -> None:
    write(folder / "cache", b"a file")
    with pytest.raises(UserError, match=r"Set paths\.cache="):
        loaded(folder)


def test_files_beside_the_meshes_are_left_alone(folder: Path) -> None:
    names = meshes_of_folder(folder / "ModelNet10").names
    assert len(names) == 18
    assert names == sorted(names)


def write_hdf5(root: Path, *, points: int = 40, change: dict[str, Any] | None = None) -> Path:
    """The prepared set in three files; the first coordinate of a cloud's first point numbers it."""
    h5py = pytest.importorskip("h5py")
    place = root / "modelnet40_ply_hdf5_2048"
    number = 0
    for stem, count in (("train0", 7), ("train1", 5), ("test0", 6)):
        held: dict[str, Any] = {
            "data": np.random.default_rng(number).normal(size=(count, points, 3)).astype(np.float32),
            "label": (np.arange(number, number + count) % 3).astype(np.uint8)[:, None],
        }
        held["data"][:, 0, 0] = np.arange(number, number + count)
        number += count
        sink = io.BytesIO()
        with h5py.File(sink, "w") as file:
            for key, value in (held | (change or {})).items():
                file[key] = value
        write(place / f"ply_data_{stem}.h5", sink.getvalue())
    return place


def test_hdf5_files_are_taken_where_they_lie_and_their_first_points(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_hdf5(tmp_path)
    unpacked(tmp_path, "ModelNet40")
    data = loaded(tmp_path, name="modelnet40")
    for part in data.splits.values():
        assert part.pos.shape[1:] == (32, 3)
        assert torch.equal(part.pos[:, 0, 0].long(), part.index)
        assert torch.equal(part.labels, part.index % 3)
    assert data.splits["test"].index.tolist() == list(range(12, 18))
    assert "published nowhere" in caplog.text
    assert len(list((tmp_path / "cache/hashes/modelnet40_ply_hdf5_2048").glob("*.sha256"))) == 3
    drawn = loaded(tmp_path, name="modelnet40", source="meshes")
    assert not torch.equal(drawn.splits["test"].pos, data.splits["test"].pos)


def test_an_hdf5_file_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    place = write_hdf5(tmp_path)
    loaded(tmp_path, name="modelnet40")
    path = place / "ply_data_test0.h5"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match="not the file that was used first"):
        loaded(tmp_path, name="modelnet40")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.zeros(3, np.uint8)}, r"is broken \(ValueError: data is"),
        ({"data": np.zeros((6, 40, 2), np.float32)}, "is broken"),
        ({"data": np.full((6, 40, 3), np.nan, np.float32), "label": np.zeros(6, np.uint8)}, "finite points"),
        ({"data": np.zeros((6, 40, 3), np.int64), "label": np.zeros(6, np.uint8)}, "finite points"),
    ],
)
def test_hdf5_files_of_something_else_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write_hdf5(tmp_path, change=change)
    with pytest.raises(UserError, match=message):
        loaded(tmp_path, name="modelnet40")


def test_hdf5_files_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    place = write_hdf5(tmp_path)
    with pytest.raises(UserError, match=r"data\.num_points=41: .* at most 40, or data\.source=meshes"):
        loaded(tmp_path, name="modelnet40", num_points=41)
    (place / "ply_data_train1.h5").write_bytes(b"no such file")
    with pytest.raises(UserError, match=r"ply_data_train1\.h5 is broken"):
        loaded(tmp_path, name="modelnet40")
    (place / "ply_data_train1.h5").unlink()
    with pytest.raises(UserError, match="holds 7 models to train and 6 to test where 12 and 6"):
        loaded(tmp_path, name="modelnet40")
    (place / "ply_data_test0.h5").unlink()
    with pytest.raises(UserError, match=r"holds no ply_data_test\*\.h5"):
        loaded(tmp_path, name="modelnet40")


def test_a_missing_h5py_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modelnet40_ply_hdf5_2048").mkdir()
    monkeypatch.setattr(modelnet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package h5py: pip install h5py\. Or .*source=meshes"):
        module(tmp_path, name="modelnet40").prepare_data()


def test_hdf5_files_that_were_asked_for_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"modelnet40_ply_hdf5_2048 is neither .* data\.source=meshes"):
        module(tmp_path, name="modelnet40", source="hdf5").prepare_data()
    with pytest.raises(UserError, match=r"data\.source=hdf5: modelnet10 has meshes only"):
        module(tmp_path, source="hdf5")
