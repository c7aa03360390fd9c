"""How a training of two players went: losses, ratios and gradients over the epochs, and the last logits.

Pure functions from arrays to figures.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.curves import epoch_series
from harness.figures import MUTED, PALETTE, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REAL, FAKE, GENERATOR, DISCRIMINATOR = PALETTE[2], PALETTE[5], PALETTE[5], PALETTE[0]
LOG_FROM_RATIO = 10.0
LINE_POINTS = 13.0  # height of a label
PANEL_INCHES = 2.35

Series = tuple[np.ndarray, np.ndarray]


@in_house_style
def draw_logits(real: np.ndarray, fake: np.ndarray) -> "Figure":
    """How the discriminator's logits of real and of generated images are spread.

    The headline says in which share of all pairs the real image has the higher logit: 50 % where the
    discriminator cannot tell them apart, whatever the loss.

    Args:
        real: ``[N]`` logits of real images; values that are not finite are left out.
        fake: ``[M]`` logits of generated ones.
    """
    real, fake = (np.ravel(logits)[np.isfinite(np.ravel(logits))] for logits in (real, fake))
    if not real.size or not fake.size:
        figure, (axes,) = new_figure("The discriminator's logits")
        axes.text(0.5, 0.5, "no logits", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    share = _in_words(100 * _share_above(real, fake))
    figure, (axes,) = new_figure(
        f"In {share} of pairs the discriminator rates the real image above the generated one"
    )
    low, high = min(real.min(), fake.min()), max(real.max(), fake.max())
    reach = max(high - low, 1e-3)
    # Rice's rule: of few images, narrow bins would show chance
    number = int(np.clip(2 * min(real.size, fake.size) ** (1 / 3), 8, 50))
    bins = np.linspace(low - 0.02 * reach, high + 0.02 * reach, number + 1)
    tops = []
    for logits, colour in ((real, REAL), (fake, FAKE)):
        weights = np.full(logits.size, 100 / logits.size)
        drawn: dict[str, Any] = {"bins": bins.tolist(), "weights": weights, "color": colour}
        heights, _, _ = axes.hist(logits, alpha=0.25, **drawn)
        axes.hist(logits, histtype="step", linewidth=1.6, **drawn)
        tops.append(float(np.max(heights)))
    axes.set_ylim(0, 1.2 * max(tops))
    order = np.argsort([np.median(real), np.median(fake)])
    for logits, colour, name, place in ((real, REAL, "real", 0), (fake, FAKE, "generated", 1)):
        median = float(np.median(logits))
        axes.axvline(median, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
        is_left = order[0] == place
        axes.annotate(
            f"{name}\nmedian {median:.2f}".replace("-", "−"),
            (median, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if is_left else 5, -4),
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="top",
            color=colour,
        )
    axes.set_xlim(bins[0] - 0.1 * reach, bins[-1] + 0.1 * reach)  # room for the labels
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Logit of the discriminator")
    axes.set_ylabel("Share of images (%)")
    return figure


def _share_above(real: np.ndarray, fake: np.ndarray) -> float:
    """Share of all pairs in which the real one is higher; ties count half."""
    ordered = np.sort(fake)
    below = np.searchsorted(ordered, real, side="left") + np.searchsorted(ordered, real, side="right")
    return float(below.mean() / (2 * fake.size))


def _in_words(percent: float) -> str:
    """In whole percent, but 100 % and 0 % only of all and of none."""
    if 99 < percent < 100:
        return "more than 99 %"
    return "less than 1 %" if 0 < percent < 1 else f"{percent:.0f} %"


@in_house_style
def draw_training(rows: Sequence[Mapping[str, Any]], title: str = "Both players, epoch by epoch") -> "Figure":
    """Everything that is logged of a training on one page.

    What was not logged leaves its panel out, and so do shares that have stayed at 0. Epochs are counted from
    1: after how many of them a number was measured.

    Args:
        rows: one mapping an epoch: ``epoch`` and any of ``train/loss_real``, ``train/loss_fake``,
            ``train/loss_g``; ``train/gamma_median``, ``train/gamma_low``, ``train/gamma_high`` (5 and 95 %);
            ``train/floored``, ``train/below_minus_14`` (shares in [0, 1]); ``train/grad_norm_g``,
            ``train/grad_norm_d``; ``val/fid`` and ``val/fd_*``. Numbers or text as read from a CSV file.
        title: headline.
    """
    panels = [panel for panel in (_losses, _gamma, _shares, _gradients, _distances) if panel(None, rows)]
    if not panels:
        figure, (axes,) = new_figure(title)
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    columns, width = (2, 10.0) if len(panels) > 1 else (1, 8.0)
    lines = -(-len(panels) // columns)
    height = 0.7 + PANEL_INCHES * lines
    figure, places = new_figure(title, rows=lines, columns=columns, width=width, height=height)
    if len(panels) < len(places):  # the last of an odd number has a row for itself
        places.pop().remove()
        grid = places[-1].get_gridspec()
        assert grid is not None
        places[-1].set_subplotspec(grid[-1, :])
    for axes, panel in zip(places, panels, strict=True):
        panel(axes, rows)
        _count_epochs(axes)
    return figure


def _losses(axes: "Axes | None", rows: Sequence[Mapping[str, Any]]) -> bool:
    found = _found(
        rows,
        ("train/loss_real", "D on real", REAL),
        ("train/loss_fake", "D on generated", PALETTE[0]),
        ("train/loss_g", "generator", GENERATOR),
    )
    if axes is not None:
        _draw(axes, found)
        axes.set_title("Loss")
    return bool(found)


def _gamma(axes: "Axes | None", rows: Sequence[Mapping[str, Any]]) -> bool:
    epochs, median = _series(rows, "train/gamma_median")
    if axes is None or not median.size:
        return bool(median.size)
    low, high = (_series(rows, f"train/gamma_{end}") for end in ("low", "high"))
    has_band = len(low[1]) == len(high[1]) == len(median)
    everything = np.concatenate([median, low[1], high[1]]) if has_band else median
    # the ratio of a symmetric loss is -1, that of others mostly spans decades below 0
    sign = -1.0 if everything.max() < 0 else 1.0
    if has_band:
        axes.fill_between(epochs, sign * low[1], sign * high[1], color=PALETTE[3], alpha=0.2, linewidth=0)
        _plot(axes, (epochs, sign * median), PALETTE[3])
    else:
        _plot(axes, (epochs, median * sign), PALETTE[3])
    if sign < 0 and everything.min() / everything.max() > LOG_FROM_RATIO:
        set_log_scale(axes)
    elif np.ptp(everything) < 1e-6:
        axes.set_ylim(sign * everything[0] - 1, sign * everything[0] + 1)
    what = "−γ" if sign < 0 else "γ"
    axes.set_title(f"Ratio {what} of the players' gradients: median{', 5 to 95 %' if has_band else ''}")
    return True


def _shares(axes: "Axes | None", rows: Sequence[Mapping[str, Any]]) -> bool:
    found = _found(
        rows,
        ("train/floored", "slope floored", PALETTE[1]),
        ("train/below_minus_14", "logit < −14", PALETTE[7]),
    )
    found = [(name, (epochs, 100 * values), colour) for name, (epochs, values), colour in found]
    is_worth_it = any(values.any() for _, (_, values), _ in found)
    if axes is not None:
        _draw(axes, found, may_be_log=False)
        top = max(float(values.max()) for _, (_, values), _ in found)
        axes.set_ylim(-0.03 * max(top, 1.0), 1.1 * max(top, 1.0))
        _label_ends(axes, found)
        axes.set_title("Share of generated images (%)")
    return is_worth_it


def _gradients(axes: "Axes | None", rows: Sequence[Mapping[str, Any]]) -> bool:
    found = _found(
        rows,
        ("train/grad_norm_d", "discriminator", DISCRIMINATOR),
        ("train/grad_norm_g", "generator", GENERATOR),
    )
    if axes is not None:
        _draw(axes, found)
        axes.set_title("Norm of the gradient")
    return bool(found)


def _distances(axes: "Axes | None", rows: Sequence[Mapping[str, Any]]) -> bool:
    keys = sorted({key for row in rows for key in row if key == "val/fid" or key.startswith("val/fd_")})
    names = ["FID" if key == "val/fid" else key.removeprefix("val/fd_").replace("_", " ") for key in keys]
    colours = [PALETTE[place % 7] for place in range(len(keys))]
    found = _found(rows, *zip(keys, names, colours, strict=True))
    if axes is not None:
        _draw(axes, found, direct=len(found) > 1)
        for _, (epochs, values), colour in found:
            best = int(np.argmin(values))
            dot: dict[str, Any] = {"color": colour, "markerfacecolor": "white", "markeredgewidth": 1.6}
            axes.plot(epochs[best], values[best], "o", **dot)
        title = "Fréchet distances, best marked"
        if len(found) == 1:
            ((name, (_, values), _),) = found
            title = "FID" if name == "FID" else f"Fréchet distance ({name})"
            title += f", best {values.min():.3g}"
        axes.set_title(title)
    return bool(found)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    epochs, values = epoch_series(rows, key)
    return epochs + 1, values


def _found(rows: Sequence[Mapping[str, Any]], *wanted: tuple[str, str, str]) -> list[tuple[str, Series, str]]:
    """(name, series, colour) of those keys that were logged."""
    each = ((name, _series(rows, key), colour) for key, name, colour in wanted)
    return [one for one in each if one[1][1].size]


def _draw(
    axes: "Axes", found: list[tuple[str, Series, str]], *, may_be_log: bool = True, direct: bool = True
) -> None:
    values = np.concatenate([values for _, (_, values), _ in found])
    for _, series, colour in found:
        _plot(axes, series, colour)
    if may_be_log and values.min() > 0 and values.max() / values.min() > LOG_FROM_RATIO:
        set_log_scale(axes)
    if may_be_log and direct:
        _label_ends(axes, found)


def _plot(axes: "Axes", series: Series, colour: str) -> None:
    axes.plot(*series, color=colour, marker="o" if series[0].size < 3 else None, markersize=4)


def _label_ends(axes: "Axes", found: list[tuple[str, Series, str]]) -> None:
    """Names beside the ends of their lines, moved apart where they would lie on each other."""
    to_fraction = axes.transData + axes.transAxes.inverted()
    axes.set_ylim(axes.get_ylim())  # what follows moves no limit
    heights = [
        float(to_fraction.transform((float(epochs[-1]), float(values[-1])))[1])
        for _, (epochs, values), _ in found
    ]
    gap = LINE_POINTS / 72 / (PANEL_INCHES - 0.8)
    order = np.argsort(heights)
    placed = spread_apart([heights[place] for place in order], gap, gap / 2, 1 - gap / 2)
    for place, height in zip(order, placed, strict=True):
        name, _, colour = found[place]
        axes.annotate(
            name,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9.5,
            annotation_clip=False,
        )


def spread_apart(
    heights: Sequence[float], gap: float, lowest: float = -np.inf, highest: float = np.inf
) -> list[float]:
    """Rising ``heights``, moved as little as keeps neighbours ``gap`` apart and all within bounds.

    Neighbours that are too close form a block around the mean of their heights; blocks that meet are joined.
    What is too much for the bounds begins at ``lowest``.
    """
    blocks: list[list[float]] = []  # [sum of heights, number]

    def first_and_last(block: list[float]) -> tuple[float, float]:
        middle, reach = block[0] / block[1], gap * (block[1] - 1) / 2
        middle = max(lowest + reach, min(middle, highest - reach))
        return middle - reach, middle + reach

    for height in heights:
        blocks.append([height, 1])
        while len(blocks) > 1 and first_and_last(blocks[-1])[0] - first_and_last(blocks[-2])[1] < gap:
            total, number = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + number]
    return [first_and_last(block)[0] + gap * place for block in blocks for place in range(int(block[1]))]


def set_log_scale(axes: "Axes") -> None:
    """A logarithmic y axis whose ticks are plain numbers, three a decade where there are few decades."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 500 * low else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _count_epochs(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Epochs trained")
