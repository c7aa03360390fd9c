"""What a generator makes, in grids.

Pure functions from arrays to figures. Images are drawn at a whole number of dots per pixel: blown up by a
fraction, the pixels of a small image would differ in size.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.figures import DOTS_PER_INCH, MUTED, WIDTH_INCHES, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

# A grid is wider than high, as a slide is. Ten columns also put each class of ten into a column of its own
# where a generator goes through its classes in turn.
COLUMNS, BESIDE_COLUMNS = 10, 5
AT_MOST, BESIDE = 60, 30  # images of one grid and of each of two
ROWS_OF_PROGRESS = 8
GAP_DOTS = 6  # between images
GAP_INCHES = 0.4  # between two grids
NARROWEST_INCHES = 5.0
MARGIN_INCHES = 0.1
TITLE_INCHES = 0.45  # for its first line; a further one takes 0.22
HEADING_INCHES = 0.3
NAMES_INCHES = 0.24  # above the columns
LABEL_INCHES = 0.95  # beside a row


@in_house_style
def draw_samples(
    images: "np.ndarray | Tensor",
    title: str,
    real: "np.ndarray | Tensor | None" = None,
    names: Sequence[str] = (),
) -> "Figure":
    """A grid of generated images, beside real ones if there are any.

    Args:
        images: ``[N, C, H, W]`` in [0, 1], C one (grey) or three, a tensor on the CPU; the first 60 are
            shown, or 30 beside others.
        title: headline.
        real: ``[M, C, H, W]``, the same size.
        names: of the classes that the images go through in turn, ten at most: a column for each, 60 images a
            side.
    """
    most = AT_MOST // len(names) * len(names) if names else AT_MOST if real is None else BESIDE
    columns = len(names) or (COLUMNS if real is None else BESIDE_COLUMNS)
    if real is None:
        return _draw_grids([(np.asarray(images)[:most], "")], title, min(columns, len(images)), names=names)
    grids = [(np.asarray(images)[:most], "Generated"), (np.asarray(real)[:most], "Real")]
    return _draw_grids(grids, title, min(columns, max(len(images), len(real))), names=names)


@in_house_style
def draw_progress(grids: "Sequence[tuple[int, np.ndarray | Tensor]]", unit: str = "epoch") -> "Figure":
    """What the generator makes of the same noise as training goes on: a row a moment, a column a noise.

    Of more than eight moments eight are shown, evenly spaced over their number: a generator keeps those after
    1, 2, 4, ... epochs, which lie close together at the beginning already.

    Args:
        grids: (epoch or step, images ``[N, C, H, W]`` in [0, 1]), in order; N is the same for all.
        unit: what the numbers count.
    """
    places = np.linspace(0, len(grids) - 1, min(len(grids), ROWS_OF_PROGRESS)).round().astype(int)
    chosen = [grids[place] for place in places]
    images = np.concatenate([np.asarray(images)[:COLUMNS] for _, images in chosen])
    columns = min(COLUMNS, len(chosen[0][1]))
    labels = [f"{unit} {moment:,}" for moment, _ in chosen]
    title = "Each column is of the same noise, each row of one moment of training"
    return _draw_grids([(images, "")], title, columns, labels)


def _draw_grids(
    grids: Sequence[tuple[np.ndarray, str]],
    title: str,
    columns: int,
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
) -> "Figure":
    """Grids side by side under headings; ``labels`` left of the first's rows, ``names`` above all columns."""
    size = grids[0][0].shape[-1]
    before = LABEL_INCHES if labels else 0.0
    free = WIDTH_INCHES - 2 * MARGIN_INCHES - before - (len(grids) - 1) * GAP_INCHES
    tile = int(free / len(grids) * DOTS_PER_INCH - (columns - 1) * GAP_DOTS) // columns
    scale = max(min(tile, 200) // size, 1)
    pictures = [(_mosaic(images, columns, scale), heading) for images, heading in grids]
    dots_high = max(picture.shape[0] for picture, _ in pictures)
    dots_wide = sum(picture.shape[1] for picture, _ in pictures)
    width = max(dots_wide / DOTS_PER_INCH + WIDTH_INCHES - free, NARROWEST_INCHES)
    above = TITLE_INCHES + 0.22 * (-(-len(title) // max(int((width - 0.2) / 0.105), 20)) - 1)
    above += HEADING_INCHES if any(heading for _, heading in grids) else 0.0
    above += NAMES_INCHES if names else 0.0
    height = above + dots_high / DOTS_PER_INCH + MARGIN_INCHES
    figure, panels = new_figure(title, columns=len(grids), width=width, height=height)
    figure.set_layout_engine("none")  # it would move the axes off the dots
    left = MARGIN_INCHES + before
    for axes, (picture, heading) in zip(panels, pictures, strict=True):
        high, wide = picture.shape[0] / DOTS_PER_INCH, picture.shape[1] / DOTS_PER_INCH
        bottom = height - above - high
        axes.set_position((left / width, bottom / height, wide / width, high / height))
        axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        axes.set_title(heading, pad=6 + (72 * NAMES_INCHES if names else 0))
        for column, name in enumerate(names[:columns]):
            _beside(axes, name, (column * (size * scale + GAP_DOTS) + size * scale / 2, 0), (0, 3), "center")
        left += wide + GAP_INCHES
    for row, label in enumerate(labels):
        middle = row * (size * scale + GAP_DOTS) + size * scale / 2
        _beside(panels[0], label, (0, middle), (-7, 0), "right")
    return figure


def _beside(
    axes: "Axes", text: str, place: tuple[float, float], offset: tuple[float, float], align: str
) -> None:
    """``text`` at a place of the picture, moved by an offset in points."""
    axes.annotate(
        text,
        place,
        xycoords="data",
        xytext=offset,
        textcoords="offset points",
        ha=align,
        va="center" if align == "right" else "bottom",
        color=MUTED,
    )


def _mosaic(images: np.ndarray, columns: int, scale: int) -> np.ndarray:
    """Images in rows of ``columns``, each pixel ``scale`` dots, white between: ``[height, width, 3]``."""
    pixels = np.clip(np.nan_to_num(images, nan=0.5), 0.0, 1.0).transpose(0, 2, 3, 1)  # -> [N, H, W, C]
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    number, side = len(pixels), pixels.shape[1]
    rows = max(-(-number // columns), 1)
    step = side + GAP_DOTS
    page = np.ones((rows * step - GAP_DOTS, columns * step - GAP_DOTS, 3))
    for place, image in enumerate(pixels):
        top, left = (place // columns) * step, (place % columns) * step
        page[top : top + side, left : left + side] = image
    return page
