"""What a classifier takes each image for, from the surest of a class to the least sure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from harness.figures import INK, MUTED, PALETTE, class_label, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8
AT_MOST = 12  # classes, a row each
LETTERS = 10  # of a class name that fit beside a row and below an image
WRONG = PALETTE[5]


@in_house_style
def draw_predictions(
    images: Tensor, max_pixel: int, labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> "Figure":
    """A row of images for each predicted class, evenly spaced from the surest to the least sure.

    Mistakes carry the true class. Of many classes the most predicted ones are shown.

    Args:
        images: ``[N, C, H, W]``, pixels up to ``max_pixel``; C one (grey) or three. Only those shown are
            read.
        max_pixel: pixel value that is white.
        labels: ``[N]``, the true classes.
        probabilities: ``[N, num_classes]``.
        class_names: one per class.
    """
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    counts = np.bincount(predicted, minlength=probabilities.shape[1])
    shown = np.sort(np.argsort(-counts, kind="stable")[:AT_MOST])
    shown = shown[counts[shown] > 0]
    title = f"{len(labels):,} test images by predicted class, from the surest to the least sure"
    if len(shown) < np.count_nonzero(counts):
        title += f"; the {len(shown)} most predicted of {len(counts)} classes"
    # a short true class has room beside the probability
    mistake = ", is " if max(map(len, class_names)) <= 3 else "\nis "
    rows = max(len(shown), 1)
    figure, panels = new_figure(
        title, rows=rows, columns=COLUMNS, height=0.8 + (1.05 if "," in mistake else 1.2) * rows
    )
    for axes in panels:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for row, label in enumerate(shown):
        of_class = np.flatnonzero(predicted == label)
        of_class = of_class[np.argsort(-sure[of_class], kind="stable")]
        places = np.unique(np.linspace(0, len(of_class) - 1, COLUMNS).round().astype(int))
        for axes, image in zip(panels[row * COLUMNS :], of_class[places], strict=False):
            pixels = images[int(image)].permute(1, 2, 0).numpy() / max_pixel  # [C, H, W] -> [H, W, C]
            grey = pixels.shape[-1] == 1
            axes.imshow(pixels.squeeze(-1) if grey else pixels, cmap="gray", vmin=0.0, vmax=1.0)
            right = labels[image] == label
            text = _percent(sure[image]) + ("" if right else mistake + _short(class_names, labels[image]))
            axes.set_xlabel(text, color=MUTED if right else WRONG, fontsize=8, labelpad=2)
        first, many = panels[row * COLUMNS], "images" if counts[label] > 1 else "image"
        for height, text, style in (
            (0.62, _short(class_names, label), {"color": INK, "fontweight": "bold"}),
            (0.36, f"{counts[label]:,} {many}", {"color": MUTED, "fontsize": 8}),
        ):
            first.text(-0.15, height, text, transform=first.transAxes, ha="right", va="center", **style)
    return figure


def _short(class_names: Sequence[str], index: int) -> str:
    name = class_label(class_names, index)
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def _percent(probability: float) -> str:
    # never a round 100 %: the least sure of 99.6 % is not certain
    return ">99 %" if probability > 0.99 else f"{100 * probability:.0f} %"
