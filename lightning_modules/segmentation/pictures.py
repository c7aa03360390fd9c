"""Scenes with the classes that their pixels were given, and how well each class is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datamodules.paired_augmentation import VOID
from harness.figures import FAINT, INK, MUTED, PALETTE, class_label, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG, UNKNOWN = (0.93, 0.94, 0.95), (0.835, 0.369, 0.0), (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Scene:
    """One image and what was made of it.

    Attributes:
        number: global number of the image.
        image: ``[3, H, W]`` in [0, 1].
        truth: ``[H, W]``, classes or 255 for void; None where nobody annotated it.
        predicted: ``[H, W]``, classes.
    """

    number: int
    image: np.ndarray
    truth: np.ndarray | None
    predicted: np.ndarray

    @property
    def accuracy(self) -> float | None:
        """Share of its pixels that are right; None where none has a label."""
        if self.truth is None or not (self.truth != VOID).any():
            return None
        return float((self.truth == self.predicted)[self.truth != VOID].mean())


@in_house_style
def draw_scenes(scenes: Sequence[Scene], class_names: Sequence[str], palette: np.ndarray) -> "Figure":
    """A row for each scene: the image, its labels, what was predicted, and where that is wrong.

    Args:
        scenes: one or more.
        class_names: C names, for the legend.
        palette: ``[256, 3]`` in [0, 1], colours of the classes.
    """
    from matplotlib.patches import Patch

    height, width = scenes[0].predicted.shape
    rows = len(scenes)
    panel = 1.95 * height / width
    legend_rows = -(-(len(class_names) + 2) // 6)
    figure, panels = new_figure(
        "What the test images hold and what was found",
        rows=rows,
        columns=4,
        height=0.9 + rows * (panel + 0.3) + 0.25 * legend_rows,
    )
    for row, scene in enumerate(scenes):
        images = (
            ("Image", scene.image.transpose(1, 2, 0)),  # [3, H, W] -> [H, W, 3]
            ("Annotated", None if scene.truth is None else palette[scene.truth]),
            ("Predicted", palette[scene.predicted]),
            ("Wrong", _errors(scene)),
        )
        for place, (name, image) in enumerate(images):
            axes = panels[4 * row + place]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
            if image is None:
                axes.text(0.5, 0.5, "not annotated", transform=axes.transAxes, ha="center", color=MUTED)
            else:
                axes.imshow(image, vmin=0.0, vmax=1.0, interpolation="nearest")
            note = f" no. {scene.number}" if place == 0 else ""
            if place == 3 and scene.accuracy is not None:
                note = f": {100 * (1 - scene.accuracy):.1f} % of pixels"
            axes.set_title(name + note if row == 0 or note else "", fontsize=9, pad=3)
    handles = [
        Patch(color=tuple(palette[index]), label=class_label(class_names, index))
        for index in range(len(class_names))
    ]
    handles += [Patch(color=UNKNOWN, label="void"), Patch(color=WRONG, label="wrong")]
    figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=8.5, handlelength=1.0)
    return figure


def _errors(scene: Scene) -> np.ndarray | None:
    """``[H, W, 3]``, None where there are no labels."""
    if scene.truth is None:
        return None
    wrong = (scene.truth != scene.predicted)[..., None]
    return np.where((scene.truth == VOID)[..., None], UNKNOWN, np.where(wrong, WRONG, RIGHT))


@in_house_style
def draw_class_iou(
    iou: np.ndarray, shares: np.ndarray, class_names: Sequence[str], palette: np.ndarray
) -> "Figure":
    """A bar for each class, best first, in its colour, with its share of the pixels; the mean as a line.

    Args:
        iou: ``[C]`` in [0, 1]; NaN of a class that is nowhere.
        shares: ``[C]``, share of each class in the annotated pixels.
        class_names: C names.
        palette: ``[256, 3]`` in [0, 1].
    """
    present = np.flatnonzero(~np.isnan(iou))
    order = present[np.argsort(-iou[present], kind="stable")]
    title = "No class was found"
    if len(order):
        mean, worst = 100 * float(iou[order].mean()), int(order[-1])
        title = f"Mean IoU {mean:.1f} %; hardest is {class_label(class_names, worst)}"
    figure, (axes,) = new_figure(title, height=1.4 + 0.32 * max(len(order), 1))
    places = np.arange(len(order))
    axes.barh(places, 100 * iou[order], color=palette[order], edgecolor=FAINT, height=0.7)
    for place, index in enumerate(order):
        text = f"{100 * iou[index]:.1f} % ({100 * shares[index]:.2g} % of pixels)"
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the line of the mean
        axes.text(100 * iou[index] + 1, place, text, va="center", fontsize=9, color=INK, bbox=behind)
    if len(order):
        axes.axvline(mean, color=PALETTE[5], linewidth=1.3, linestyle=(0, (5, 3)), zorder=0.5)
    axes.set_yticks(places, [class_label(class_names, int(index)) for index in order])
    axes.invert_yaxis()
    axes.set_xlim(0, 140)  # room for the numbers
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("Intersection over union on the test images (%)")
    axes.grid(visible=False, axis="y")
    return figure
