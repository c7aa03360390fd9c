"""Point clouds: what each is taken for, and which of its points a network holds for near."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from harness.figures import INK, MUTED, PALETTE, class_label, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6
AT_MOST = 24  # clouds of the gallery
LETTERS = 12  # of a class name that fit above a cloud
WRONG = PALETTE[5]
_TURN, _TILT = math.radians(35.0), math.radians(20.0)  # of the onlooker, around z and above the horizon
_SMALLEST, _LARGEST = 1.0, 9.0  # square points: size of a point, for 1,024 and for few


@in_house_style
def draw_clouds(
    pos: Tensor, labels: Tensor, probabilities: Tensor, index: Tensor, class_names: Sequence[str]
) -> "Figure":
    """Test clouds with what they are taken for, mistakes first, and those that the network is surest of.

    The room that is left goes to others, spread over the test set whatever their class.

    Args:
        pos: ``[N, n, 3]``; only those shown are read.
        labels: ``[N]``, the true classes.
        probabilities: ``[N, num_classes]``.
        index: ``[N]``, numbers of the clouds, to find them again.
        class_names: one per class.
    """
    sure, predicted = probabilities.max(dim=1)
    wrong = (predicted != labels).nonzero().flatten()
    wrong = wrong[sure[wrong].argsort(descending=True, stable=True)]
    right = (predicted == labels).nonzero().flatten()
    shown = wrong[:AT_MOST].tolist()
    room = min(AT_MOST - len(shown), len(right))
    shown += [int(right[number * len(right) // room]) for number in range(room)]
    total = len(labels)
    title = f"{len(right):,} of {total:,} test clouds are recognised"
    if len(wrong):
        title += (
            f"; {'the surest mistakes' if len(wrong) > AT_MOST else 'mistakes'} first, with the true class"
        )
    rows = max(-(-len(shown) // COLUMNS), 1)
    figure, panels = new_figure(title, rows=rows, columns=COLUMNS, height=0.7 + 1.6 * rows)
    for axes in panels:
        axes.set_axis_off()
    for axes, number in zip(panels, shown, strict=False):
        label, found = int(labels[number]), int(predicted[number])
        _draw_points(axes, pos[number].numpy(), INK)
        text = f"{_short(class_names, found)}, {_percent(float(sure[number]))}"
        text += "" if found == label else f"\nis {_short(class_names, label)}"
        axes.set_title(text, color=MUTED if found == label else WRONG, fontsize=8, pad=2)
        axes.text(0.0, -0.02, f"no. {index[number]}", transform=axes.transAxes, fontsize=7, color=MUTED)
    return figure


@in_house_style
def draw_distances(
    pos: Tensor, spaces: Mapping[str, Tensor], names: Sequence[str], points: Sequence[int] | None = None
) -> "Figure":
    """Every point coloured by its distance from one point, in space and in the features of networks.

    A row is a cloud, a column a space. Colours are shares of a panel's own largest distance, as distances of
    different spaces have no common unit. What a network holds for alike is near the point wherever it lies.

    Args:
        pos: ``[m, n, 3]``.
        spaces: by heading, features ``[m, n, D]`` of any width: layers of a network, or one layer of several.
        names: what each cloud is, m of them.
        points: from which point of each cloud distances are measured; None for the one farthest from the
            middle, which lies at an end or a corner.
    """
    if points is None:
        points = (pos - pos.mean(dim=1, keepdim=True)).square().sum(dim=2).argmax(dim=1).tolist()
    columns = {"in space": pos, **spaces}
    figure, panels = new_figure(
        "Distance from one point (ringed): near is dark, far is light",
        rows=len(pos),
        columns=len(columns),
        width=max(1.45 * len(columns) + 0.7, 5.0),
        height=0.9 + 1.45 * len(pos),
    )
    for number, axes in enumerate(panels):
        axes.set_axis_off()
        cloud, column = divmod(number, len(columns))
        heading, features = list(columns.items())[column]
        point = points[cloud]
        shares = distance_shares(features[cloud], point)
        _draw_points(axes, pos[cloud].numpy(), shares, ring=point)
        if cloud == 0:
            axes.set_title(heading, color=INK, fontsize=9, pad=3, loc="left")
        if column == 0:
            axes.text(
                -0.04,
                0.5,
                class_label([names[cloud]], 0),
                transform=axes.transAxes,
                rotation=90,
                ha="right",
                va="center",
                fontsize=9,
                color=MUTED,
            )
    return figure


def distance_shares(features: Tensor, point: int) -> np.ndarray:
    """Distances of all points ``[n, D]`` from one of them as shares of the largest; ``[n]`` in [0, 1]."""
    distances = (features - features[point]).double().square().sum(dim=1).sqrt()
    shares: np.ndarray = (distances / distances.max().clamp_min(1e-300)).numpy()
    return shares


def _draw_points(axes: "Axes", pos: np.ndarray, colour: str | np.ndarray, ring: int | None = None) -> None:
    """A cloud ``[n, 3]`` as seen from afar, the points behind drawn first."""
    right = pos @ np.array([-math.sin(_TURN), math.cos(_TURN), 0.0])
    ahead = pos @ np.array([math.cos(_TURN), math.sin(_TURN), 0.0])
    up = pos[:, 2] * math.cos(_TILT) - ahead * math.sin(_TILT)
    near = pos[:, 2] * math.sin(_TILT) + ahead * math.cos(_TILT)
    order = np.argsort(near, kind="stable")
    size = float(np.clip(1600 / len(pos), _SMALLEST, _LARGEST))
    if isinstance(colour, str):
        # what is behind is paler
        span = max(float(np.ptp(near)), 1e-9)
        depth = (near - near.min()) / span
        axes.scatter(
            right[order], up[order], s=size, c=colour, alpha=0.25 + 0.65 * depth[order], linewidths=0
        )
    else:
        axes.scatter(
            right[order], up[order], s=size, c=colour[order], cmap="viridis", vmin=0, vmax=1, linewidths=0
        )
    if ring is not None:
        axes.scatter(right[ring], up[ring], s=60, facecolors="none", edgecolors=WRONG, linewidths=1.4)
    axes.set_aspect("equal")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)


def _short(class_names: Sequence[str], index: int) -> str:
    name = class_label(class_names, index)
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def _percent(probability: float) -> str:
    # never a round 100 %
    return ">99 %" if probability > 0.99 else f"{100 * probability:.0f} %"
