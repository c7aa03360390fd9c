"""Triangle meshes: the OFF format, and points that are uniform on a surface.

Not ``torch_geometric.io.read_off``: it takes a path and no content of an archive, loops over faces in Python,
drops polygons of more than four corners in silence, loses the last line of a file that ends without a line
break, and fails where a line ends as on Windows. Both read ModelNet's broken headers, ``OFF123 45 0``.
"""

import itertools
import warnings

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from harness.errors import UserError


def parse_off(content: bytes, label: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and triangles of an OFF file; a polygon becomes a fan of triangles.

    Args:
        content: ``OFF``, the numbers of vertices, faces and edges on the same line or the next one, then a
            line for each vertex and one for each face: the number of its corners, these, perhaps a colour.
            What follows a ``#`` counts for nothing.
        label: which file, for messages.

    Returns:
        ``[V, 3]`` and ``[T, 3]``.

    Raises:
        UserError: it is no such file, or a truncated one.
    """
    try:
        return _parsed(content.decode("ascii"))
    except (ValueError, OverflowError, IndexError) as error:
        raise UserError(f"{label} is no mesh in OFF format: {error}. Replace or delete it.") from error


def _parsed(text: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if "#" in text:
        text = "\n".join(line.partition("#")[0] for line in text.splitlines())
    text = text.lstrip()
    if not text.startswith("OFF"):
        raise ValueError("it does not begin with OFF")
    counts, _, rest = text[3:].lstrip().partition("\n")
    num_vertices, num_faces = (int(word) for word in counts.split()[:2])
    if num_vertices < 3 or num_faces < 1:
        raise ValueError(f"{num_vertices} vertices and {num_faces} faces have no surface")
    numbers = _numbers(rest)
    vertices, after = numbers[: 3 * num_vertices].reshape(-1, 3), numbers[3 * num_vertices :]
    if len(vertices) < num_vertices:
        raise ValueError(f"it ends before its {num_vertices} vertices do")
    if len(after) == 4 * num_faces and (after[::4] == 3).all():
        triangles = after.reshape(-1, 4)[:, 1:].astype(np.int64)
    else:
        lines = [line for line in rest.splitlines() if line.strip()]
        triangles = _fans(lines[num_vertices : num_vertices + num_faces], num_faces)
    if not np.isfinite(vertices).all():
        raise ValueError("a vertex is not finite")
    if len(triangles) == 0 or triangles.min() < 0 or triangles.max() >= num_vertices:
        raise ValueError(f"a face does not join {num_vertices} vertices")
    return vertices, triangles


def _numbers(text: str) -> NDArray[np.float64]:
    """All numbers of a text, without a Python object for each: a mesh may have a million."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # what is no number ends the list, which is noticed
        return np.fromstring(text, np.float64, sep=" ")


def _fans(lines: list[str], num_faces: int) -> NDArray[np.int64]:
    if len(lines) < num_faces:
        raise ValueError(f"it ends before its {num_faces} faces do")
    triangles: list[tuple[int, int, int]] = []
    for line in lines:
        words = line.split()
        corners = [int(word) for word in words[1 : 1 + int(words[0])]]
        if len(corners) != int(words[0]):
            raise ValueError(f"a face of {words[0]} corners names {len(corners)}")
        triangles += [(corners[0], *pair) for pair in itertools.pairwise(corners[1:])]
    return np.array(triangles, np.int64).reshape(-1, 3)


def sample_surface(
    vertices: NDArray[np.float64], triangles: NDArray[np.int64], count: int, generator: Generator
) -> NDArray[np.float64]:
    """Points that are uniform on the surface of a mesh, ``[count, 3]``.

    Args:
        vertices: ``[V, 3]``.
        triangles: ``[T, 3]``, numbers of vertices.
        count: points.
        generator: where draws come from.

    Raises:
        ValueError: the surface has no area, or one beyond what numbers can hold.
    """
    first, second, third = vertices[triangles.T]  # [T, 3] each
    normals = np.cross(second - first, third - first)
    ends = np.cumsum(np.sqrt((normals**2).sum(axis=1)))  # twice the areas
    if not 0 < ends[-1] < np.inf:
        raise ValueError("its surface has no area")
    # the last triangle of some area catches what rounding leaves over
    chosen = np.searchsorted(ends, generator.random(count) * ends[-1], side="right")
    chosen = np.minimum(chosen, np.searchsorted(ends, ends[-1]))
    root = np.sqrt(generator.random((count, 1)))
    along = generator.random((count, 1))
    points: NDArray[np.float64] = (
        (1 - root) * first[chosen] + root * (1 - along) * second[chosen] + root * along * third[chosen]
    )
    return points
