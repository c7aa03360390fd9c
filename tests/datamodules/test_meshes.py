"""OFF files, broken ones among them, and points that are uniform on a surface."""

import numpy as np
import pytest

from datamodules.meshes import parse_off, sample_surface
from harness.errors import UserError

CORNERS = "0 0 0\n1 0 0\n0 2 0\n0 0 3\n"
FACES = "3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"
LABEL = "data=toy: a.off"


def test_vertices_and_triangles_come_out_as_they_were_written() -> None:
    vertices, triangles = parse_off(f"OFF\n4 4 0\n{CORNERS}{FACES}".encode(), LABEL)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]
    assert triangles.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize(
    "text",
    [
        f"OFF4 4 0\n{CORNERS}{FACES}",  # as some files of ModelNet are
        f"OFF 4 4 0\n{CORNERS}{FACES}",
        f"OFF\n4 4\n{CORNERS}{FACES}",
        f"OFF\n4 4 0\n{CORNERS}{FACES}".replace("\n", "\r\n"),
        f"OFF  \n\n4 4 0\n{CORNERS}{FACES}".rstrip(),
        f"# made by hand\nOFF # a mesh\n4 4 0 # counts\n{CORNERS}# faces\n{FACES}",
        f"OFF\n4 4 0\n{CORNERS}" + FACES.replace("\n", " 255 0 0\n"),
        f"OFF\n4 4 0\n{CORNERS}{FACES}0 0\n",
        "OFF\n4 4 0\n" + CORNERS.replace("3\n", "3e0\n") + FACES,
    ],
)
def test_the_same_mesh_may_be_written_in_other_ways(text: str) -> None:
    vertices, triangles = parse_off(text.encode(), LABEL)
    expected = parse_off(f"OFF\n4 4 0\n{CORNERS}{FACES}".encode(), LABEL)
    assert np.array_equal(vertices, expected[0])
    assert np.array_equal(triangles, expected[1])


def test_the_reference_reader_finds_the_same_in_a_file_that_it_can_read() -> None:
    from torch_geometric.io.off import parse_off as reference

    for head in ("OFF\n4 4 0", "OFF4 4 0"):
        text = f"{head}\n{CORNERS}{FACES}"
        vertices, triangles = parse_off(text.encode(), LABEL)
        expected = reference(text.split("\n")[:-1])
        assert np.array_equal(vertices, expected.pos.numpy())
        assert np.array_equal(triangles, expected.face.T.numpy())


def test_a_polygon_becomes_a_fan() -> None:
    _, triangles = parse_off(f"OFF\n4 2 0\n{CORNERS}4 0 1 3 2\n3 0 1 2\n".encode(), LABEL)
    assert triangles.tolist() == [[0, 1, 3], [0, 3, 2], [0, 1, 2]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with OFF"),
        (b"PLY\n", "does not begin with OFF"),
        (b"OFF\n", "not enough values"),
        (b"OFF\nfour 4 0\n", "invalid literal"),
        (b"OFF BINARY\n\x00\x01", "invalid literal"),
        (b"OFF\n\xff\n", "codec can't decode"),
        (b"OFF\n2 1 0\n0 0 0\n1 1 1\n", "no surface"),
        (b"OFF\n4 0 0\n" + CORNERS.encode(), "no surface"),
        (b"OFF\n5 4 0\n" + CORNERS.encode(), "ends before its 5 vertices"),
        (f"OFF\n4 4 0\n{CORNERS}{FACES[:16]}".encode(), "ends before its 4 faces"),
        (f"OFF\n4 4 0\n{CORNERS}{FACES[:-3]}\n".encode(), "a face of 3 corners names 2"),
        (f"OFF\n4 4 0\n{CORNERS}{FACES}".replace("1 2 3\n", "1 2 4\n").encode(), "does not join 4"),
        (f"OFF\n4 4 0\n{CORNERS}{FACES}".replace("1 2 3\n", "1 2 -1\n").encode(), "does not join 4"),
        (f"OFF\n4 4 0\n{CORNERS}{FACES}".replace("0 0 3\n", "0 0 nan\n").encode(), "not finite"),
        (
            f"OFF\n4 4 0\n{CORNERS}{FACES}".replace("0 0 3\n", "0 0 x\n").encode(),
            "could not be read to its end|ends before its 4 vertices",  # numpy 2.4 says so itself
        ),
        (f"OFF\n4 1 0\n{CORNERS}2 0 1\n".encode(), "does not join"),
    ],
)
def test_what_is_no_mesh_is_a_users_mistake(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.off is no mesh in OFF format: .*({message})"):
        parse_off(content, LABEL)


def test_points_lie_on_triangles_in_proportion_to_their_areas() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [8, 0, 0], [5, 1, 0], [9, 9, 9]])
    triangles = np.array([[0, 1, 2], [6, 6, 6], [3, 4, 5], [0, 0, 1]])  # areas 1/2, 0, 3/2, 0
    points = sample_surface(vertices, triangles, 40_000, np.random.default_rng(0))
    assert (points[:, 2] == 0).all()
    small = points[points[:, 0] < 2]
    assert len(small) / len(points) == pytest.approx(0.25, abs=0.01)
    assert small.min() >= 0
    assert (small[:, :2].sum(axis=1) <= 1 + 1e-12).all()
    # uniform within a triangle: the mean is its middle, a quarter lies in the half-sized one at a corner
    np.testing.assert_allclose(small[:, :2].mean(axis=0), 1 / 3, atol=0.01)
    assert (small[:, :2].sum(axis=1) < 0.5).mean() == pytest.approx(0.25, abs=0.015)


def test_a_surface_without_area_has_no_points() -> None:
    flat = np.zeros((3, 3))
    with pytest.raises(ValueError, match="no area"):
        sample_surface(flat, np.array([[0, 1, 2]]), 5, np.random.default_rng(0))
    flat[0] = 1e200
    flat[1, 0] = -1e200
    with pytest.raises(ValueError, match="no area"), np.errstate(over="ignore", invalid="ignore"):
        sample_surface(flat, np.array([[0, 1, 2]]), 5, np.random.default_rng(0))
