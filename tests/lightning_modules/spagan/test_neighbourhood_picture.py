import numpy as np
import pytest

from lightning_modules.spagan.neighbourhood import Neighbourhood, WeightedPath
from lightning_modules.spagan.neighbourhood_picture import draw_neighbourhood, place_labels, radial_layout


def star(arms, paths=True):
    """A centre with ``arms`` neighbours, each with one node behind it."""
    edges = [(0, arm) for arm in range(1, arms + 1)] + [(arm, arm + arms) for arm in range(1, arms + 1)]
    kept = [WeightedPath(edge, 0.3 / arms) for edge in edges[:arms]]
    kept += [WeightedPath((0, arm, arm + arms), 0.4 / arms) for arm in range(1, arms + 1)]
    return Neighbourhood(
        node_ids=np.arange(100, 101 + 2 * arms),
        classes=np.arange(1 + 2 * arms) % 10,
        edges=np.array(edges),
        paths=tuple(kept) if paths else (),
        self_weight=0.3 if paths else 1.0,
        hidden_paths=0,
        hidden_weight=0.0,
        hidden_nodes=7,
    )


ALONE = Neighbourhood(np.array([5]), np.array([0]), np.empty((0, 2), dtype=int), (), 1.0, 0, 0.0, 0)


def test_nodes_stand_on_the_ring_of_their_hops():
    position, depth = radial_layout(star(5))
    assert depth.tolist() == [0] + [1] * 5 + [2] * 5
    np.testing.assert_allclose(np.hypot(*position.T), depth, atol=1e-12)


def test_nodes_without_a_path_stand_by_hops_too():
    assert radial_layout(star(5, paths=False))[1].tolist() == [0] + [1] * 5 + [2] * 5


@pytest.mark.parametrize("arms", [1, 4, 15])
def test_no_two_nodes_share_a_place(arms):
    position, _ = radial_layout(star(arms))
    distance = np.hypot(*(position[:, None] - position[None]).transpose(2, 0, 1))
    assert distance[~np.eye(len(position), dtype=bool)].min() > 0.2


def test_labels_keep_clear_of_nodes_and_of_each_other():
    neighbourhood = star(6)
    points = radial_layout(neighbourhood)[0] * 80
    offsets = place_labels(neighbourhood, points, range(1, 13))
    middles = np.array([points[node] + offset for node, offset in offsets.items()])
    for index, middle in enumerate(middles):
        assert not (np.abs(points - middle) < (18, 10.5)).all(axis=1).any()
        assert not (np.abs(middles[:index] - middle) < (36, 21)).all(axis=1).any()


@pytest.mark.parametrize("neighbourhood", [ALONE, star(1), star(4), star(15), star(3, paths=False)])
def test_every_neighbourhood_can_be_drawn(neighbourhood):
    figure = draw_neighbourhood(neighbourhood, ["Probabilistic_Methods"], "chosen by hand")
    figure.draw_without_rendering()
    name = str(neighbourhood.node_ids[0])
    assert figure.get_suptitle().startswith(f"Node {name} (Probabilistic Methods)")
    assert name in [text.get_text() for text in figure.axes[0].texts]


def test_legend_names_the_classes_shown_and_the_weights():
    side = draw_neighbourhood(star(2), ["a", "b", "c_c"]).axes[1]
    legends = [child for child in side.get_children() if type(child).__name__ == "Legend"]
    text = [piece.get_text() for legend in legends for piece in legend.get_texts()]
    assert {"a", "b", "c c", "class 3", "class 4"} <= set(text)
    assert {"2 nodes (1 hop): 30 %", "3 nodes (2 hops): 40 %", "itself: 30 %"} <= set(text)
