"""What a student takes for what more often, or less often, than its teacher."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import FAINT, INK, PALETTE, class_label, in_house_style, new_figure
from lightning_modules.netgraft.pictures import against_teacher, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORSE, BETTER = PALETTE[5], PALETTE[0]
NUMBERS_UP_TO = 20  # classes; beyond, a cell is too small for its number
DECIMALS_UP_TO = 10
CELL_INCHES = 0.52
LETTERS = 16  # of a class name that fit beside a cell


@in_house_style
def draw_confusion_difference(
    student: np.ndarray, teacher: np.ndarray, class_names: Sequence[str]
) -> "Figure":
    """What the student takes for what more often or less often than its teacher.

    A cell is the difference of the two shares of the true class. More on the diagonal is better and more
    elsewhere is worse: colours show that and numbers the difference itself.

    Args:
        student: ``[C, C]``, images of class row that the student takes for class column.
        teacher: ``[C, C]``, the same of the teacher.
        class_names: C names.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import FuncFormatter

    num_classes = len(student)
    student_share, teacher_share = _shares(student), _shares(teacher)
    difference = student_share - teacher_share
    better = np.where(np.eye(num_classes, dtype=bool), difference, -difference)
    top = float(np.abs(better).max(initial=0)) or 1.0
    side = float(np.clip(CELL_INCHES * num_classes, 3.6, 7.4))
    right = [100 * float(np.trace(counts)) / max(int(counts.sum()), 1) for counts in (student, teacher)]
    title = f"The student is {against_teacher(*right)}; "
    title += _loss_in_words(np.diag(teacher_share), np.diag(student_share), class_names)
    figure, (axes,) = new_figure(title, width=side + 2.6, height=side + 1.5)
    colours = LinearSegmentedColormap.from_list("better", [WORSE, "white", BETTER])
    image = axes.imshow(better, cmap=colours, vmin=-top, vmax=top)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.03)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda points, _: f"{abs(points):g}"))
    bar.set_label("← worse (points of the true class) better →")
    bar.outline.set_visible(False)
    digits = 1 if num_classes <= DECIMALS_UP_TO else 0
    if num_classes <= NUMBERS_UP_TO:
        for (row, column), points in np.ndenumerate(difference):
            if round(points, digits):
                strong = abs(points) > 0.75 * top
                axes.text(
                    column,
                    row,
                    signed(points, digits),
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if strong else INK,
                )
    _name_classes(axes, class_names, num_classes)
    return figure


def _shares(counts: np.ndarray) -> np.ndarray:
    """In percent of the true class; 0 where a class has no image."""
    return 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _loss_in_words(before: np.ndarray, after: np.ndarray, class_names: Sequence[str]) -> str:
    worst = int(np.argmin(after - before))
    if after[worst] >= before[worst]:
        return "no class loses"
    # true of several classes alike, too
    name = class_label(class_names, worst)
    return f"no class loses more than {name}, from {before[worst]:.1f} to {after[worst]:.1f} %"


def _name_classes(axes: "Axes", class_names: Sequence[str], num_classes: int) -> None:
    named = range(0, num_classes, -(-num_classes // NUMBERS_UP_TO))
    names = [class_label(class_names, index) for index in named]
    names = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    is_long = max(map(len, names)) > 3
    slant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    axes.set_xticks(named, names, **slant)
    axes.set_yticks(named, names)
    axes.set_xlabel("Predicted")
    axes.set_ylabel("True")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    is_crowded = num_classes > NUMBERS_UP_TO
    for edge in np.array([0, num_classes] if is_crowded else range(num_classes + 1)) - 0.5:
        axes.axhline(edge, color=FAINT, linewidth=0.5)
        axes.axvline(edge, color=FAINT, linewidth=0.5)
