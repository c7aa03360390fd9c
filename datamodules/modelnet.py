"""ModelNet40 and ModelNet10: models of 40 or 10 kinds of things as point clouds.

Source: Wu et al., "3D ShapeNets: a deep representation for volumetric shapes", arXiv 1406.5670. For academic
research; the copyright of each model is its author's.

Two sources of the points, which are not the same ones, so that results differ a little between them:

- the HDF5 files ``modelnet40_ply_hdf5_2048`` that PointNet and DGCNN are trained on (Qi et al., arXiv
  1612.00593), 2,048 points of each model in the unit sphere, of which the first ones are taken. Their hashes
  are published by nobody who made them: those of the first use are recorded. They need the package h5py.
- the meshes, unpacked or as the published archives. Points are drawn from the triangles, uniformly on the
  surface, by draws that follow from ``sample_seed`` and the file's name alone; they are kept in the cache.
"""

import hashlib
import importlib.util
import json
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from datamodules.download import RemoteFile, fetch, open_verified
from datamodules.kept_arrays import intact, write_array
from datamodules.modelnet_files import (
    PARTS,
    Meshes,
    meshes_of_archive,
    meshes_of_folder,
    read_hdf5,
    sample_mesh,
)
from datamodules.point_clouds import PointCloudDataModule, PointClouds, Split, hold_out_clouds
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

log = logging.getLogger("tenfold")

_TEN = "bathtub bed chair desk dresser monitor night_stand sofa table toilet"
_FORTY = (
    "airplane bathtub bed bench bookshelf bottle bowl car chair cone cup curtain desk door dresser flower_pot"
    " glass_box guitar keyboard lamp laptop mantel monitor night_stand person piano plant radio range_hood"
    " sink sofa stairs stool table tent toilet tv_stand vase wardrobe xbox"
)
_HDF5 = "modelnet40_ply_hdf5_2048"
_SAMPLER = 1  # to be raised where the same mesh gives other points than before


@dataclass(frozen=True)
class _Set:
    """What is known of a set.

    Attributes:
        folder: of the meshes, and stem of the archive.
        archive: the published one. Its hash is named by several projects that check it.
        class_names: in alphabetical order, which is that of the HDF5 files too.
        meshes: models to train and to test.
        hdf5: the same of the HDF5 files, or None where there are none.
    """

    folder: str
    archive: RemoteFile
    class_names: tuple[str, ...]
    meshes: tuple[int, int]
    hdf5: tuple[int, int] | None = None


_SETS = {
    "modelnet40": _Set(
        "ModelNet40",
        RemoteFile(
            "ModelNet40.zip",
            "https://modelnet.cs.princeton.edu/ModelNet40.zip",
            ("42dc3e656932e387f554e25a4eb2cc0e1a1bd3ab54606e2a9eae444c60e536ac",),
        ),
        tuple(_FORTY.split()),
        (9843, 2468),
        (9840, 2468),
    ),
    "modelnet10": _Set(
        "ModelNet10",
        RemoteFile(
            "ModelNet10.zip",
            "https://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
            ("9d8679435fc07d1d26f13009878db164a7aa8ea5e7ea3c8880e42794b7307d51",),
        ),
        tuple(_TEN.split()),
        (3991, 908),
    ),
}


class ModelNetDataModule(PointCloudDataModule):
    """Point clouds in the unit sphere; the published test set, a validation set taken from the training set.

    Args:
        name: which set.
        root: folder of data sets.
        cache: where the download goes when ``root`` is read-only, and where sampled points are kept.
        source: ``hdf5``, ``meshes``, or ``auto``: the first that lies in either folder, else meshes.
        num_points: points n of a cloud; of the HDF5 files at most 2,048.
        num_classes: kinds of things.
        num_val: validation clouds, each class with its share; 0 for none.
        split_seed: seed of the validation set, and of nothing else.
        sample_seed: seed of the points that are drawn from meshes, and of nothing else.
        batch_size: clouds of one optimiser step, over all processes.
        augment: see :class:`datamodules.point_clouds.PointCloudDataModule`.
        drop_last: leaves out a last batch of training that is smaller than the others.
        seed: of the order and the augmentation.

    Raises:
        UserError: ``source=hdf5`` of a set that has no such files.
    """

    def __init__(
        self,
        name: Literal["modelnet40", "modelnet10"],
        root: str,
        cache: str,
        source: Literal["auto", "hdf5", "meshes"],
        num_points: PositiveInt,
        num_classes: PositiveInt,
        num_val: NonNegativeInt,
        split_seed: NonNegativeInt,
        sample_seed: NonNegativeInt,
        batch_size: PositiveInt,
        augment: Literal["none", "scale_shift", "scale_shift_shuffle"],
        drop_last: bool,
        seed: NonNegativeInt,
    ) -> None:
        self._set = _SETS[name]
        super().__init__(
            name, num_points, num_classes, self._set.class_names, batch_size, augment, drop_last, seed
        )
        if source == "hdf5" and self._set.hdf5 is None:
            raise UserError(f"data.source=hdf5: {name} has meshes only. Set data.source=meshes.")
        self.root = root
        self.cache = cache
        self.source = source
        self.num_val = num_val
        self.split_seed = split_seed
        self.sample_seed = sample_seed

    def prepare_data(self) -> None:
        """Looks which files are there, and downloads the archive where there are none.

        Raises:
            UserError: h5py is missing, or see :func:`datamodules.download.fetch`.
        """
        if self._hdf5() is not None:
            if importlib.util.find_spec("h5py") is None:
                raise UserError(
                    f"data={self.choice}: {self._hdf5()} needs the package h5py: pip install h5py."
                    " Or set data.source=meshes, which draws other points from the meshes."
                )
        elif self._meshes() is None and not self._kept():
            fetch(self.choice, [self._set.archive], self.root, self.cache, stand_in="mini_modelnet")

    def build(self) -> dict[Split, PointClouds]:
        folder = self._hdf5()
        if folder is not None:
            log.info("data=%s: points of %s", self.choice, folder)
            parts = [read_hdf5(self.choice, folder, part, self.num_points, self.cache) for part in PARTS]
            (train, train_labels), (test, test_labels) = parts
            self._check_counts(f"data={self.choice}: {folder}", (len(train), len(test)), self._set.hdf5)
        else:
            rows = self._sampled()
            tests = rows["test"]
            (train, train_labels), (test, test_labels) = (
                (rows["pos"][chosen], rows["label"][chosen]) for chosen in (~tests, tests)
            )
        first = len(train)
        index = torch.arange(first + len(test))
        return hold_out_clouds(
            self.choice,
            PointClouds(torch.from_numpy(train), torch.from_numpy(train_labels), index[:first]),
            PointClouds(torch.from_numpy(test), torch.from_numpy(test_labels), index[first:]),
            self.num_val,
            self.split_seed,
        )

    def _place(self, folder: str) -> Path | None:
        places = (Path(base).expanduser() / folder for base in (self.root, self.cache))
        return next((place for place in places if place.is_dir()), None)

    def _hdf5(self) -> Path | None:
        """The folder of HDF5 files if they are to be used."""
        if self.source == "meshes" or self._set.hdf5 is None:
            return None
        place = self._place(_HDF5)
        if place is None and self.source == "hdf5":
            raise UserError(
                f"data={self.choice}: {_HDF5} is neither under paths.data={self.root} nor under"
                f" paths.cache={self.cache}, and is not downloaded. Get {_HDF5}.zip, which DGCNN names, and"
                " unpack it there; or set data.source=meshes."
            )
        return place

    def _meshes(self) -> Path | None:
        return self._place(self._set.folder)

    def _dtype(self) -> np.dtype[Any]:
        """Of a row: the points, the class, and whether the model is for testing."""
        return np.dtype([("pos", "f4", (self.num_points, 3)), ("label", "i8"), ("test", "?")])

    def _kept_path(self, made_of: Any) -> Path:
        facts = [self.choice, made_of, self.num_points, self.sample_seed, _SAMPLER]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return Path(self.cache).expanduser() / "sampled" / f"{self.choice}_{self.num_points}_{key}.npy"

    def _kept(self) -> bool:
        """Whether points of the published archive are in the cache, so that it is not needed."""
        return intact(self._kept_path(self._set.archive.sha256), self._dtype())

    def _sampled(self) -> NDArray[Any]:
        """Points drawn from meshes, from the cache or drawn now; one row a model, training models first."""
        folder, archive = self._meshes(), self._set.archive
        meshes: AbstractContextManager[Meshes]
        if folder is None:
            opened = open_verified(self.choice, archive, self.root, self.cache)
            label, path = f"data={self.choice}: {archive.path}", self._kept_path(archive.sha256)
            meshes = meshes_of_archive(opened, self._set.folder, label)
        else:
            label, found = f"data={self.choice}: {folder}", meshes_of_folder(folder)
            path = self._kept_path([[name, (folder / name).stat().st_size] for name in found.names])
            meshes = nullcontext(found)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not intact(path, self._dtype()):
                    with meshes as opened_meshes:
                        self._draw(path, opened_meshes, label)
        except OSError as error:
            raise UserError(
                f"data={self.choice}: {error.filename or path} cannot be read or written"
                f" ({error.strerror or error}). Set paths.cache=<folder> to one with 300 MiB to spare."
            ) from error
        rows: NDArray[Any] = np.load(path)
        return rows

    def _draw(self, path: Path, meshes: Meshes, label: str) -> None:
        """Writes the file of points."""
        classes = {name: number for number, name in enumerate(self._set.class_names)}
        found = {name.split("/")[0] for name in meshes.names}
        if found != set(classes):
            wrong = min(found ^ set(classes))
            raise UserError(
                f"{label} {'holds' if wrong in found else 'lacks'} the class {wrong}: it is not"
                f" {self._set.folder}, or not all of it. Unpack the archive again."
            )
        train, test = ([name for name in meshes.names if name.split("/")[1] == part] for part in PARTS)
        self._check_counts(label, (len(train), len(test)), self._set.meshes)
        log.info("data=%s: drawing points of %d meshes, once, in minutes", self.choice, len(meshes.names))

        def make(rows: NDArray[Any]) -> None:
            for number, name in enumerate([*train, *test]):
                content = meshes.read(name)
                pos = sample_mesh(content, self.num_points, self.sample_seed, name, f"{label}: {name}")
                rows[number] = (pos, classes[name.split("/")[0]], number >= len(train))

        write_array(path, self._dtype(), (len(meshes.names),), make)

    def _check_counts(self, label: str, found: tuple[int, int], expected: tuple[int, int] | None) -> None:
        if expected is not None and found != expected:
            raise UserError(
                f"{label} holds {found[0]} models to train and {found[1]} to test where {expected[0]} and"
                f" {expected[1]} are published. Unpack the archive again."
            )
