"""Where labels of dots are put."""

import numpy as np

from lightning_modules.deal.label_places import label_places

LOW, HIGH = np.zeros(2), np.full(2, 100.0)


def places(
    dots: list[tuple[float, float]], size: tuple[float, float] = (20, 6)
) -> tuple[list[list[float]], list[bool]]:
    centres, is_far = label_places(np.array(dots, float), np.array([size] * len(dots), float), LOW, HIGH, 5)
    return centres.tolist(), is_far.tolist()


def test_a_dot_alone_has_its_label_to_the_right_and_at_the_edge_to_the_left() -> None:
    assert places([(50, 50)]) == ([[65, 50]], [False])
    assert places([(90, 50)]) == ([[75, 50]], [False])


def test_two_dots_side_by_side_have_their_labels_on_the_outer_sides() -> None:
    (left, right), is_far = places([(46, 50), (54, 50)])
    assert left[0] < 46
    assert right[0] > 54
    assert is_far == [False, False]


def test_labels_of_dots_in_one_place_lie_around_it() -> None:
    centres, _ = places([(50, 50)] * 4)
    assert len({tuple(centre) for centre in centres}) == 4
    for place, one in enumerate(centres):
        for other in centres[:place]:
            assert abs(one[0] - other[0]) >= 20 or abs(one[1] - other[1]) >= 6


def test_in_a_crowd_some_labels_go_farther_and_none_covers_another() -> None:
    dots = [(50.0 + 3 * (number % 3), 50.0 + 3 * (number // 3)) for number in range(9)]
    centres, is_far = places(dots, (14, 6))
    assert any(is_far)
    for place, one in enumerate(centres):
        for other in centres[:place]:
            assert abs(one[0] - other[0]) >= 14 - 1e-6 or abs(one[1] - other[1]) >= 6 - 1e-6
