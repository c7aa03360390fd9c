"""Pictures of point clouds: what is shown, in which order, with which colours."""

import numpy as np
import pytest
import torch

from lightning_modules.point_cloud_classification.pictures import distance_shares, draw_clouds, draw_distances
from tests.figure_text import text_of

NAMES = ("arm_chair", "bed", "a_thing_with_a_long_name")


def clouds(count: int, points: int = 20) -> torch.Tensor:
    pos = torch.randn(count, points, 3, generator=torch.Generator().manual_seed(0))
    return pos / pos.norm(dim=2).amax(dim=1)[:, None, None]


def test_the_surest_mistakes_come_first_and_say_what_is_true() -> None:
    labels = torch.tensor([0, 1, 2, 0])
    shares = torch.tensor([[0.1, 0.6, 0.3], [0.0, 1.0, 0.0], [0.8, 0.1, 0.1], [0.5, 0.3, 0.2]])
    figure = draw_clouds(clouds(4), labels, shares, torch.tensor([10, 11, 12, 13]), NAMES)
    assert text_of(figure).startswith("2 of 4 test clouds are recognised; mistakes first")
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles[0] == "arm chair, 80 %\nis a thing wit…"
    assert titles[1] == "bed, 60 %\nis arm chair"
    assert titles[2:] == ["bed, >99 %", "arm chair, 50 %"]
    assert [axes.texts[0].get_text() for axes in figure.axes[:4]] == ["no. 12", "no. 10", "no. 11", "no. 13"]


@pytest.mark.parametrize("count", [1, 3, 24, 200])
@pytest.mark.parametrize("right", [True, False])
def test_no_more_than_24_are_drawn_and_none_twice(count: int, right: bool) -> None:
    labels = torch.zeros(count, dtype=torch.long)
    shares = torch.zeros(count, 3)
    shares[:, 0 if right else 1] = 0.9
    figure = draw_clouds(clouds(count), labels, shares, torch.arange(count), NAMES)
    text_of(figure)
    drawn = [axes.texts[0].get_text() for axes in figure.axes if axes.texts]
    assert len(drawn) == len(set(drawn)) == min(count, 24)


def test_distances_are_shares_of_the_largest_one() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]])
    assert distance_shares(features, 0).tolist() == [0.0, 0.5, 1.0]
    assert distance_shares(torch.ones(3, 2), 1).tolist() == [0.0, 0.0, 0.0]


def test_networks_stand_side_by_side_each_with_distances_of_its_own() -> None:
    pos = clouds(2)
    spaces = {"teacher": torch.randn(2, 20, 64), "student with LSP": torch.randn(2, 20, 8)}
    figure = draw_distances(pos, spaces, ["arm_chair", "bed"], points=[3, 5])
    text = text_of(figure)
    for word in ("in space", "teacher", "student with LSP", "arm chair", "bed"):
        assert word in text
    assert len(figure.axes) == 6
    for number, axes in enumerate(figure.axes):
        cloud, column = divmod(number, 3)
        features = [pos, *spaces.values()][column]
        colours = axes.collections[0].get_array()
        assert colours is not None
        expected = distance_shares(features[cloud], (3, 5)[cloud])
        np.testing.assert_allclose(np.sort(colours), np.sort(expected))
        ringed = np.asarray(axes.collections[1].get_offsets())
        drawn = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_allclose(drawn[np.argmin(colours)], ringed[0])


def test_the_point_is_the_farthest_from_the_middle_where_none_is_named() -> None:
    pos = torch.zeros(1, 5, 3)
    pos[0, 2] = torch.tensor([0.0, 1.0, 0.0])
    figure = draw_distances(pos, {}, ["bed"])
    assert np.asarray(figure.axes[0].collections[0].get_array()).tolist().count(0.0) == 1
