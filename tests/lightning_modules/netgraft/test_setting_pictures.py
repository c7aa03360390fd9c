import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from harness.figures import DOTS_PER_INCH
from lightning_modules.netgraft.setting_pictures import GAP_DOTS, draw_costs, draw_few_shots
from tests.figure_text import text_of

KEYS = (
    "block",
    "side",
    "teacher_parameters",
    "student_parameters",
    "teacher_macs",
    "student_macs",
    "grafted",
)
BLOCKS = [
    (0, 16, 38_720, 38_720, 39_500_000, 39_500_000, False),
    (3, 2, 5_899_776, 1_769_984, 94_400_000, 28_300_000, True),
    ("head", None, 999_999, 512, 267_000, 0, True),
]
COSTS = [dict(zip(KEYS, block, strict=True)) for block in BLOCKS]


def lines_of_the_table(figure: Figure) -> list[list[str]]:
    """Cells from left to right, line by line."""
    texts = sorted(figure.axes[0].texts, key=lambda text: (text.get_position()[1], text.get_position()[0]))
    heights = sorted({text.get_position()[1] for text in texts})
    return [[text.get_text() for text in texts if text.get_position()[1] == y] for y in heights]


def test_the_table_has_a_line_for_each_block_and_the_total():
    assert lines_of_the_table(draw_costs(COSTS)) == [
        ["Parameters", "MACs per image"],
        ["Block", "output", "teacher", "student", "change", "teacher", "student", "change"],
        ["0", "16 × 16", "38.72 k", "38.72 k", "–", "39.50 M", "39.50 M", "–", "copied"],
        ["3", "2 × 2", "5.900 M", "1.770 M", "−70 %", "94.40 M", "28.30 M", "−70 %", "grafted"],
        ["head", "–", "1.000 M", "512", "−100 %", "267.0 k", "0", "−100 %", "grafted"],
        ["total", "6.938 M", "1.809 M", "−74 %", "134.2 M", "67.80 M", "−49 %"],
    ]


def test_the_headline_says_what_is_saved():
    assert (
        draw_costs(COSTS).get_suptitle() == "The student has 74 % fewer parameters and needs 49 % fewer MACs"
    )
    more = [COSTS[0] | {"student_parameters": 77_440}]
    assert draw_costs(more).get_suptitle() == "The student has 100 % more parameters and needs as many MACs"


def test_cells_of_the_table_do_not_touch_and_the_title_fits():
    wide = {"block": "layer3", "side": 112, "teacher_parameters": 555_500_000, "teacher_macs": 888_800_000}
    figure = draw_costs([*COSTS, COSTS[1] | wide])
    text_of(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    title = figure._suptitle
    assert title is not None
    assert title.get_window_extent().x1 <= figure.bbox.x1
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_table_without_blocks_can_be_drawn():
    assert "total" in text_of(draw_costs([]))


def images(number: int, size: int = 8, colours: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((number, colours, size, size)).round(2)


def dots(figure: Figure) -> np.ndarray:
    """The drawn picture, ``[height, width, 3]`` bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    file.seek(0)
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(("size", "colours"), [(8, 1), (28, 1), (32, 3)])
@pytest.mark.parametrize(("num_classes", "shots"), [(2, 1), (10, 5), (20, 10)])
def test_every_image_stands_in_the_row_of_its_class_every_pixel_crisp(size, colours, num_classes, shots):
    given = images(num_classes * shots, size, colours)
    figure = draw_few_shots(given, [], shots)
    drawn, place = dots(figure), figure.axes[0].get_position()
    high, wide = drawn.shape[:2]
    left, top = round(place.x0 * wide), round((1 - place.y1) * high)
    scale = round(place.height * high - GAP_DOTS * (num_classes - 1)) // (num_classes * size)
    assert scale >= 1
    step = size * scale + GAP_DOTS
    for index, image in enumerate(given):
        y, x = top + index // shots * step, left + index % shots * step
        expected = np.broadcast_to(255 * image.transpose(1, 2, 0), (size, size, 3))
        expected = expected.repeat(scale, axis=0).repeat(scale, axis=1)
        found = drawn[y : y + size * scale, x : x + size * scale].astype(float)
        assert np.abs(found - expected).max() <= 1.01, index


def test_a_name_stands_beside_the_middle_of_its_row():
    figure = draw_few_shots(images(6), ["t_shirt", "trouser", "an_ankle_boot_of_leather"], 2)
    text = text_of(figure).replace("\n", " ")
    assert "2 images of each of 3 classes, without labels" in text
    assert "here" not in text
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "t shirt",
        "trouser",
        "an ankle boot of …",
    ]
    (image,) = axes.images
    height = image.get_array().shape[0]
    assert axes.get_yticks().tolist() == pytest.approx(
        [(height - 2 * GAP_DOTS) / 6 - 0.5, height / 2 - 0.5, height - (height - 2 * GAP_DOTS) / 6 - 0.5]
    )
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(box.x0 >= 0 and box.x1 <= axes.bbox.x0 for box in boxes)


@pytest.mark.parametrize(
    ("num_classes", "shots", "said"),
    [
        (
            100,
            20,
            "20 images of each of 100 classes, without labels;"
            " here the first 10 images of the first 20 classes",
        ),
        (100, 1, "one image of each of 100 classes, without labels; here the first 20 classes"),
        (2, 50, "50 images of each of 2 classes, without labels; here the first 10 images"),
    ],
)
def test_of_too_many_the_first_are_shown_and_the_headline_says_so(num_classes, shots, said):
    given = images(num_classes * shots)
    figure = draw_few_shots(given, [f"c{index}" for index in range(num_classes)], shots)
    assert said in text_of(figure).replace("\n", " ")
    first = given.reshape(num_classes, shots, 1, 8, 8)[:20, :10]
    rows, columns = first.shape[:2]
    alone = draw_few_shots(first.reshape(-1, 1, 8, 8), [], columns)
    pages = [picture.axes[0].images[0].get_array() for picture in (figure, alone)]
    assert np.array_equal(*pages)
    assert len(figure.axes[0].get_yticks()) == rows


def test_images_larger_than_their_place_are_shrunk_to_it():
    figure = draw_few_shots(images(40, 224, 3), [f"c{index}" for index in range(20)], 2)
    title = figure._suptitle
    figure.draw_without_rendering()
    assert title is not None
    assert title.get_window_extent().y0 > figure.axes[0].bbox.y1
    assert figure.get_figheight() < 8
    box = figure.axes[0].get_position()
    width, height = box.width * figure.get_figwidth(), box.height * figure.get_figheight()
    page = figure.axes[0].images[0].get_array()
    assert width / height == pytest.approx(page.shape[1] / page.shape[0])


@pytest.mark.parametrize(("number", "shots"), [(7, 2), (0, 1), (4, 0)])
def test_images_that_do_not_make_whole_classes_are_refused(number, shots):
    with pytest.raises(ValueError, match=f"got {number} images and shots={shots}"):
        draw_few_shots(images(number), [], shots)
