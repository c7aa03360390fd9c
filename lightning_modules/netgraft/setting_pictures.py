"""What NetGraft starts from: the two networks, block by block, and the images that the student may see.

Pure functions from numbers and arrays to figures.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import DOTS_PER_INCH, FAINT, INK, MUTED, class_label, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW_INCHES = 0.32
GRAFTED_ROW = "#e8f4ef"
# Right edges of the columns of numbers, as shares of the table's width.
SIDE_PLACE = 0.195
PARAMETER_PLACES = (0.33, 0.44, 0.54)
MAC_PLACES = (0.68, 0.79, 0.89)

MOST_CLASSES, MOST_SHOTS = 20, 10
GAP_DOTS = 6  # between images
LARGEST_TILE_INCHES = 0.8
HIGHEST_INCHES, HIGHEST_OF_FEW = 8.5, 5.5  # of the grid
FEW_SHOTS = 4
NARROWEST_INCHES = 5.5
MARGIN_INCHES = 0.12
LETTERS = 18  # of a class name


@in_house_style
def draw_costs(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Table of both networks, block by block: parameters and multiplications, copied or grafted.

    Args:
        rows: one mapping a block, in order: ``block`` (number or name), ``side`` of its output in pixels
            (None where it is no map), ``teacher_parameters``, ``student_parameters``, ``teacher_macs``,
            ``student_macs`` (multiply-accumulates per image) and ``grafted`` (else copied from the teacher).
    """
    number = len(rows) + 1
    keys = ("teacher_parameters", "student_parameters", "teacher_macs", "student_macs")
    total = {key: sum(row[key] for row in rows) for key in keys}
    figure, (axes,) = new_figure(_costs_title(total), height=0.95 + ROW_INCHES * (number + 2))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(number - 0.4, -2.6)
    for places, name in ((PARAMETER_PLACES, "Parameters"), (MAC_PLACES, "MACs per image")):
        axes.plot([places[0] - 0.09, places[-1]], [-1.55, -1.55], color=FAINT, linewidth=1.0)
        axes.text(places[1] - 0.03, -2, name, ha="center", va="center", color=INK, weight="bold")
        for place, heading in zip(places, ("teacher", "student", "change"), strict=True):
            axes.text(place, -1, heading, ha="right", va="center", color=MUTED)
    axes.text(0.012, -1, "Block", va="center", color=MUTED)
    axes.text(SIDE_PLACE, -1, "output", ha="right", va="center", color=MUTED)
    for place, row in enumerate([*rows, total]):
        is_total = place == len(rows)
        weight = "bold" if is_total else "normal"
        if not is_total and row["grafted"]:
            axes.axhspan(place - 0.5, place + 0.5, color=GRAFTED_ROW, linewidth=0, zorder=0)
        cells = [(0.012, "left", "total" if is_total else str(row["block"]))]
        if not is_total:
            side = row["side"]
            cells.append((SIDE_PLACE, "right", f"{side} × {side}" if side else "–"))
            cells.append((0.925, "left", "grafted" if row["grafted"] else "copied"))
        for places, of in ((PARAMETER_PLACES, "parameters"), (MAC_PLACES, "macs")):
            before, after = row[f"teacher_{of}"], row[f"student_{of}"]
            texts = (_readable(before), _readable(after), _change(before, after))
            cells += [(x, "right", text) for x, text in zip(places, texts, strict=True)]
        for x, align, text in cells:
            axes.text(x, place, text, ha=align, va="center", color=INK, weight=weight)
    for y in (-0.5, len(rows) - 0.5):
        axes.axhline(y, color=MUTED if y > 0 else FAINT, linewidth=1.0)
    return figure


def _costs_title(total: Mapping[str, float]) -> str:
    parameters = _saving(total["teacher_parameters"], total["student_parameters"], "parameters")
    macs = _saving(total["teacher_macs"], total["student_macs"], "MACs")
    return f"The student has {parameters} and needs {macs}"


def _saving(before: float, after: float, what: str) -> str:
    percent = round(100 * (after - before) / before) if before else 0
    if not percent:
        return f"as many {what}"
    return f"{abs(percent)} % {'fewer' if percent < 0 else 'more'} {what}"


def _change(before: float, after: float) -> str:
    percent = round(100 * (after - before) / before) if before else 0
    return f"{percent:+d} %".replace("-", "−") if percent else "–"


def _readable(value: float) -> str:
    """Four digits and a unit: ``14.98 M``; below a thousand the number itself."""
    value = float(f"{value:.4g}")  # rounds 999,999 up to a million before the unit is chosen
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.{4 - len(str(int(scaled)))}f} {unit}"
    return f"{value:g}"


@in_house_style
def draw_few_shots(images: np.ndarray, class_names: Sequence[str], shots: int) -> "Figure":
    """All images that the student is trained on, a row a class.

    Images are drawn at a whole number of dots per pixel, unless they are larger than their place.

    Args:
        images: ``[num_classes * shots, C, H, W]`` in [0, 1], class by class, C one (grey) or three; of more
            than 20 classes or 10 shots the first are shown.
        class_names: one per class.
        shots: images per class.

    Raises:
        ValueError: if the number of images is no multiple of ``shots``.
    """
    if shots < 1 or not len(images) or len(images) % shots:
        raise ValueError(f"images must be a multiple of shots, got {len(images)} images and shots={shots}")
    num_classes = len(images) // shots
    rows, columns = min(num_classes, MOST_CLASSES), min(shots, MOST_SHOTS)
    shown = images.reshape(num_classes, shots, *images.shape[1:])[:rows, :columns]
    highest = HIGHEST_INCHES if columns > FEW_SHOTS else HIGHEST_OF_FEW
    tile = min(LARGEST_TILE_INCHES, highest / rows) * DOTS_PER_INCH - GAP_DOTS
    size = max(images.shape[2:])
    scale = int(tile) // size
    dots = float(scale) if scale else tile / size  # of a pixel
    gap = GAP_DOTS if scale else round(GAP_DOTS / dots)
    page = _mosaic(shown, max(scale, 1), gap)
    to_inches = (1.0 if scale else dots) / DOTS_PER_INCH
    high, wide = page.shape[0] * to_inches, page.shape[1] * to_inches
    names = [class_label(class_names, index) for index in range(rows)]
    names = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    before = max(map(len, names)) * 0.085 + 0.25
    width = max(before + wide + MARGIN_INCHES, NARROWEST_INCHES)
    title = _shots_title(num_classes, shots)
    above = 0.45 + 0.22 * (-(-len(title) // max(int((width - 0.2) / 0.105), 20)) - 1)
    height = above + high + MARGIN_INCHES
    figure, (axes,) = new_figure(title, width=width, height=height)
    figure.set_layout_engine("none")  # it would move the axes off the dots
    axes.set_position((before / width, MARGIN_INCHES / height, wide / width, high / height))
    interpolation = "nearest" if scale else "antialiased"
    axes.imshow(page, interpolation=interpolation, aspect="auto")
    step = (page.shape[0] + gap) / rows
    axes.set_yticks([row * step + (step - gap) / 2 - 0.5 for row in range(rows)], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def _shots_title(num_classes: int, shots: int) -> str:
    images = "one image" if shots == 1 else f"{shots} images"
    title = f"All that the student sees: {images} of each of {num_classes} classes, without labels"
    left_out = []
    if shots > MOST_SHOTS:
        left_out.append(f"the first {MOST_SHOTS} images")
    if num_classes > MOST_CLASSES:
        left_out.append(f"the first {MOST_CLASSES} classes")
    return f"{title}; here {' of '.join(left_out)}" if left_out else title


def _mosaic(images: np.ndarray, scale: int, gap: int) -> np.ndarray:
    """``[rows, columns, C, H, W]`` as one picture ``[height, width, 3]``, white between the images."""
    rows, columns, _, high, wide = images.shape
    pixels = np.clip(np.nan_to_num(images, nan=0.5), 0.0, 1.0).transpose(0, 1, 3, 4, 2)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:-1], 3))  # [rows, columns, H, W, 3]
    pixels = pixels.repeat(scale, axis=2).repeat(scale, axis=3)
    down, right = high * scale + gap, wide * scale + gap
    page = np.ones((rows * down - gap, columns * right - gap, 3))
    for row in range(rows):
        for column in range(columns):
            top, left = row * down, column * right
            page[top : top + high * scale, left : left + wide * scale] = pixels[row, column]
    return page
