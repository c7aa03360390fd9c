"""The picture of a cross-validation: validation accuracy of all folds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.figures import FAINT, INK, PALETTE, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@in_house_style
def draw_folds(curves: Sequence[Sequence[float]], planned: int, published: float | None = None) -> "Figure":
    """Accuracy of each fold after every epoch, their mean, and the epoch at which it is best.

    Args:
        curves: of the folds that were begun, in [0, 1]; may differ in length.
        planned: folds in all.
        published: accuracy to compare with, in [0, 1], or None.
    """
    common = min(len(curve) for curve in curves)
    values = 100 * np.array([curve[:common] for curve in curves])
    mean = values.mean(axis=0)
    best = int(mean.argmax())
    deviation = f" ± {values[:, best].std(ddof=1):.1f}" if len(curves) > 1 else ""
    figure, (axes,) = new_figure(
        f"{len(curves)} of {planned} folds: their mean is best after epoch {best + 1},"
        f" {mean[best]:.1f}{deviation} %"
    )
    for curve in curves:
        axes.plot(range(1, len(curve) + 1), 100 * np.array(curve), color=FAINT, linewidth=0.8)
    axes.plot(range(1, common + 1), mean, color=PALETTE[0], label="mean of the folds")
    axes.plot(best + 1, mean[best], "o", color=PALETTE[0])
    if published is not None:
        axes.axhline(100 * published, color=PALETTE[5], linestyle="--", linewidth=1.2)
        axes.text(1, 100 * published, "published ", color=PALETTE[5], va="bottom", fontsize=9)
    axes.plot([], [], color=FAINT, linewidth=0.8, label="one fold")
    low = np.percentile(values, 1)
    axes.set_ylim(max(low - 8, 0), min(values.max() + 3, 101))
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Validation accuracy (%)")
    axes.legend(loc="lower right", labelcolor=INK)
    return figure
