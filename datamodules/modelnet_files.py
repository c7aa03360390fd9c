"""The files that ModelNet comes in: meshes in folders or in an archive, and points in HDF5 files."""

import hashlib
import io
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from datamodules import first_use
from datamodules.meshes import parse_off, sample_surface
from datamodules.point_clouds import in_unit_sphere
from harness.errors import UserError

PARTS = ("train", "test")

_LARGEST = 1 << 30  # bytes of a mesh as text
_MESH = re.compile(r"[a-z_]+/(train|test)/[^/]+\.off")  # archives made on a Mac hold other files too


@dataclass(frozen=True)
class Meshes:
    """Files in OFF format.

    Attributes:
        names: sorted, such as ``chair/train/chair_0001.off``.
        read: the content of the file of a name.
    """

    names: list[str]
    read: Callable[[str], bytes]


def meshes_of_folder(folder: Path) -> Meshes:
    """Those below a folder."""
    names = []
    for place, _, files in os.walk(folder):
        below = Path(place).relative_to(folder).as_posix()
        names += [name for file in files if _MESH.fullmatch(name := f"{below}/{file}")]
    return Meshes(sorted(names), lambda name: (folder / name).read_bytes())


@contextmanager
def meshes_of_archive(opened: AbstractContextManager[BinaryIO], folder: str, label: str) -> Iterator[Meshes]:
    """Those of a folder in a zip archive, read without unpacking it to disk.

    Args:
        opened: gives the archive, which is too large for memory.
        folder: in the archive.
        label: which file, for messages.

    Raises:
        UserError: it is no zip archive or a broken one, or a mesh is too large.
    """
    try:
        with opened as stream, zipfile.ZipFile(stream) as archive:
            members = {info.filename: info for info in archive.infolist()}
            names = (name.removeprefix(f"{folder}/") for name in members if name.startswith(f"{folder}/"))

            def read(name: str) -> bytes:
                member = members[f"{folder}/{name}"]
                if member.file_size > _LARGEST:
                    raise UserError(
                        f"{label}: {name} would take {member.file_size} bytes, and no more than {_LARGEST}"
                        " are read."
                    )
                return archive.read(member)

            yield Meshes(sorted(filter(_MESH.fullmatch, names)), read)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{label} cannot be unpacked ({error}). Delete it and run again to download it."
        ) from error


def sample_mesh(content: bytes, num_points: int, seed: int, name: str, label: str) -> NDArray[np.float32]:
    """Points that are uniform on the surface of a mesh, in the unit sphere; ``[n, 3]``.

    Args:
        content: an OFF file.
        num_points: points n.
        seed: with ``name``, what the draws follow from.
        name: of the file below the set's folder.
        label: which file, for messages.

    Raises:
        UserError: it is no mesh, or one without a surface.
    """
    generator = np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()])
    try:
        return in_unit_sphere(sample_surface(*parse_off(content, label), num_points, generator))
    except ValueError as error:
        raise UserError(f"{label} has no points to draw: {error}. Replace or delete it.") from error


def read_hdf5(
    choice: str, folder: Path, part: str, num_points: int, cache: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first points of each model, ``[N, n, 3]``, and its class, ``[N]``.

    Args:
        choice: the ``data=`` choice, for messages.
        folder: with files ``ply_data_<part>*.h5``, of ``data`` ``[k, 2048, 3]`` and ``label`` ``[k, 1]``.
        part: ``train`` or ``test``.
        num_points: points n.
        cache: where the hashes of the first use are kept.

    Raises:
        UserError: a file is missing, not the one that was used first, broken, or has fewer points.
    """
    import h5py  # only where such files are used

    clouds, labels = [], []
    for path in sorted(folder.glob(f"ply_data_{part}*.h5")):
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        first_use.confirm(choice, str(path), f"{folder.name}/{path.name}", found, cache)
        try:
            with h5py.File(io.BytesIO(content), "r") as file:
                points, kinds = np.asarray(file["data"]), np.asarray(file["label"]).reshape(-1)
            if points.ndim != 3 or points.shape[2] != 3 or len(points) != len(kinds):
                raise ValueError(f"data is {points.shape} and label {kinds.shape}")
            if points.dtype.kind != "f" or kinds.dtype.kind not in "iu" or not np.isfinite(points).all():
                raise ValueError("it holds something else than finite points and numbers of classes")
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            raise UserError(
                f"data={choice}: {path} is broken ({type(error).__name__}: {error})."
                " Unpack the archive again."
            ) from error
        if points.shape[1] < num_points:
            raise UserError(
                f"data.num_points={num_points}: {path} holds {points.shape[1]} points of each model."
                f" Set data.num_points to at most {points.shape[1]}, or data.source=meshes."
            )
        clouds.append(points[:, :num_points].astype(np.float32))
        labels.append(kinds.astype(np.int64))
    if not clouds:
        raise UserError(f"data={choice}: {folder} holds no ply_data_{part}*.h5. Unpack the archive again.")
    return np.concatenate(clouds), np.concatenate(labels)
