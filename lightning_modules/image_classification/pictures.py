"""Which classes an image classifier takes for which, and the images that it is most wrong about."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import FAINT, INK, MUTED, PALETTE, class_label, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 6
AT_MOST = 24  # images in the grid
NUMBERS_UP_TO = 20  # classes; beyond, a cell is too small for its number
CELL_INCHES = 0.52
LETTERS = 16  # of a class name that fit beside a cell
LETTERS_ABOVE = 10  # and above an image, before a percentage


@in_house_style
def draw_confusion(counts: np.ndarray, class_names: Sequence[str], things: str = "images") -> "Figure":
    """Mistakes from class to class, coloured by their share of the true class; correct answers stay grey.

    With correct answers on the same scale the mistakes of a good classifier could not be seen.

    Args:
        counts: ``[C, C]``, images of class row that were taken for class column.
        class_names: C names.
        things: what is classified, for the title.
    """
    from matplotlib.colors import LinearSegmentedColormap

    num_classes = len(counts)
    of_class = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = 100 * counts / of_class
    mistakes = np.ma.masked_array(share, mask=np.eye(num_classes, dtype=bool) | (counts == 0))
    side = float(np.clip(CELL_INCHES * num_classes, 3.2, 7.0))
    figure, (axes,) = new_figure(
        _confusion_title(counts, class_names, things), width=side + 2.4, height=side + 1.5
    )
    axes.imshow(np.where(np.eye(num_classes, dtype=bool), 1.0, np.nan), cmap="Greys", vmin=0.0, vmax=8.0)
    colours = LinearSegmentedColormap.from_list("mistakes", ["#fdeee0", PALETTE[5]])
    top = float(mistakes.max()) if mistakes.count() else 0.0
    if top:
        image = axes.imshow(mistakes, cmap=colours, vmin=0.0, vmax=top)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.03)
        bar.set_label("Mistakes (% of the true class)")
        bar.outline.set_visible(False)
    is_crowded = num_classes > NUMBERS_UP_TO
    for (row, column), count in np.ndenumerate(counts):
        if count and not is_crowded:
            colour = MUTED if row == column else "white" if share[row, column] > 0.75 * top else INK
            axes.text(column, row, str(int(count)), ha="center", va="center", fontsize=9.5, color=colour)
    named = range(0, num_classes, -(-num_classes // NUMBERS_UP_TO))
    names = [_short(class_names, index) for index in named]
    is_long = max(map(len, names)) > 3
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    axes.set_xticks(named, names, **slant)
    axes.set_yticks(named, names)
    axes.set_xlabel("Predicted")
    axes.set_ylabel("True")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    for edge in np.array([0, num_classes] if is_crowded else range(num_classes + 1)) - 0.5:
        axes.axhline(edge, color=FAINT, linewidth=0.5)
        axes.axvline(edge, color=FAINT, linewidth=0.5)
    return figure


def _confusion_title(counts: np.ndarray, class_names: Sequence[str], things: str) -> str:
    total, right = int(counts.sum()), int(np.trace(counts))
    title = f"{right:,} of {total:,} test {things} are recognised"
    mistakes = counts - np.diag(np.diag(counts))
    worst = int(mistakes.max(initial=0))
    pairs = np.argwhere(mistakes == worst)
    if worst > 1 and len(pairs) == 1:
        true, predicted = (class_label(class_names, int(index)) for index in pairs[0])
        title += f"; most often, {true} is taken for {predicted}"
    return title


@in_house_style
def draw_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    index: np.ndarray,
    class_names: Sequence[str],
) -> "Figure":
    """The wrongly classified images, those first that the network is surest of.

    Args:
        images: ``[N, C, H, W]`` in [0, 1], C one (grey) or three.
        labels: ``[N]``, the true classes.
        probabilities: ``[N, num_classes]``.
        index: ``[N]``, numbers of the images, to find them again.
        class_names: one per class.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    shown = wrong[:AT_MOST]
    rows = max(-(-len(shown) // COLUMNS), 1)
    figure, panels = new_figure(
        _mistakes_title(len(wrong), len(labels)), rows=rows, columns=COLUMNS, height=0.6 + 1.75 * rows
    )
    for axes in panels:
        axes.set_axis_off()
    for axes, image in zip(panels, shown, strict=False):
        pixels = images[image].transpose(1, 2, 0)  # [C, H, W] -> [H, W, C]
        axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0.0, vmax=1.0)
        sure = probabilities[image, predicted[image]]
        true = probabilities[image, labels[image]]
        title = f"{_short(class_names, predicted[image], LETTERS_ABOVE)}: {_percent(sure)}\n"
        title += f"true {_short(class_names, labels[image], LETTERS_ABOVE)}: {_percent(true)}"
        axes.set_title(title, color=INK, fontsize=8, pad=3)
        axes.text(
            0.0, -0.03, f"no. {index[image]}", transform=axes.transAxes, va="top", fontsize=8, color=MUTED
        )
    return figure


def _mistakes_title(wrong: int, total: int) -> str:
    if not wrong:
        return f"All {total:,} test images are recognised"
    if wrong > AT_MOST:
        return f"The {AT_MOST} surest of {wrong:,} mistakes on {total:,} test images"
    return (
        f"The {wrong} mistakes on {total:,} test images, surest first"
        if wrong > 1
        else f"The one mistake on {total:,} test images"
    )


def _short(class_names: Sequence[str], index: int, letters: int = LETTERS) -> str:
    name = class_label(class_names, index)
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _percent(probability: float) -> str:
    return "<1 %" if probability < 0.01 else f"{100 * probability:.0f} %"
