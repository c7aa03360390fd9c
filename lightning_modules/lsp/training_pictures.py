"""How a student was trained: its loss and L_LSP by epoch, and its scores beside its teacher's.

Pure functions from rows of numbers to figures, whatever kind of graph the student sees.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.curves import LOG_FROM_RATIO, PublishedValue, epoch_series
from harness.figures import INK, MUTED, PALETTE, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TASK_COLOUR, LSP_COLOUR, SHARE_COLOUR = PALETTE[0], PALETTE[2], PALETTE[3]
TRAIN_COLOUR, VAL_COLOUR, PUBLISHED_COLOUR = PALETTE[4], PALETTE[0], PALETTE[5]
TEACHER_LINE: dict[str, Any] = {"color": INK, "linewidth": 1.3, "linestyle": (0, (5, 3))}
THREE_TICKS_BELOW = 200.0  # ratio of the axis' ends up to which a decade has three ticks

Rows = Sequence[Mapping[str, Any]]
Line = tuple[str, str, np.ndarray, np.ndarray]  # label, colour, epochs, values


@in_house_style
def draw_training(
    rows: Rows, lsp_until: int | None = None, limits: tuple[float, float] | None = None
) -> "Figure":
    """Parts of the loss, what L_LSP weighs among them, and L_LSP on the common ruler, against the epoch.

    Where both networks make graphs of their own, also how much of them is the same.

    Args:
        rows: one mapping an epoch: ``epoch`` and any of ``train/task_loss``, ``train/kd_loss``,
            ``train/hint_loss``, ``train/lsp_term`` (lambda * L_LSP), ``train/lsp_gradient_share`` in [0, 1],
            ``train/lsp_ruler``, ``val/lsp_ruler`` and ``val/graph_overlap`` in [0, 1]. What is missing leaves
            a gap; what is nowhere, a panel.
        lsp_until: epochs with the term, after which a mark says that it ended; None for all.
        limits: the overlap of graphs made by chance and the largest there can be, in [0, 1].
    """
    losses = _lines(
        rows,
        ("task loss", TASK_COLOUR, "train/task_loss"),
        ("λ · L_LSP", LSP_COLOUR, "train/lsp_term"),
        ("soft labels, unweighted", PALETTE[1], "train/kd_loss"),
        ("hints, unweighted", PALETTE[6], "train/hint_loss"),
    )
    weight = _lines(rows, ("share of the gradient's length", SHARE_COLOUR, "train/lsp_gradient_share"))
    ratio = _ratio(rows)
    if ratio is not None:
        weight.insert(0, ("λ · L_LSP over the task loss", LSP_COLOUR, *ratio))
    weight = [(label, colour, epochs, 100 * values) for label, colour, epochs, values in weight]
    ruler = _lines(
        rows,
        ("training", TRAIN_COLOUR, "train/lsp_ruler"),
        ("validation", VAL_COLOUR, "val/lsp_ruler"),
    )
    overlap = _lines(rows, ("both graphs", VAL_COLOUR, "val/graph_overlap"))
    overlap = [(label, colour, epochs, 100 * values) for label, colour, epochs, values in overlap]
    panels = [("Loss", losses), (_WEIGHT, weight), (_RULER, ruler), (_OVERLAP, overlap)]
    panels = [(name, lines) for name, lines in panels if lines]
    title = _training_title(weight, ruler, _ended(rows, lsp_until))
    if not panels:
        figure, (axes,) = new_figure(title)
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=MUTED)
        axes.set_yticks([])
        return figure
    figure, each = new_figure(title, rows=len(panels), height=1.3 + 2.05 * len(panels), sharex=True)
    for axes, (name, lines) in zip(each, panels, strict=True):
        is_log = _draw_lines(axes, lines)
        if name == _OVERLAP and limits is not None:
            _draw_limits(axes, *limits)
        axes.set_ylabel(f"{name}, log scale" if is_log else name)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0, handlelength=1.4)
        axes.set_title(_NOTES.get(name, ""), loc="right")
    if lsp_until is not None and _ended(rows, lsp_until):
        _mark_end(each, lsp_until)
    _set_epochs(each[-1])
    figure.align_ylabels()
    return figure


_WEIGHT, _RULER, _OVERLAP = "L_LSP's weight (%)", "Ruler", "Same edges (%)"
_NOTES = {_RULER: "L_LSP by rbf, σ = 100", _OVERLAP: "of the edges in either graph, validation"}


def _lines(rows: Rows, *wanted: tuple[str, str, str]) -> list[Line]:
    """Label, colour and series of each key that has values."""
    found = [(label, colour, *epoch_series(rows, key)) for label, colour, key in wanted]
    return [line for line in found if line[2].size]


def _ratio(rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
    """Epochs and ``lsp_term / task_loss`` where both are known."""
    (over, term), (under, task) = (epoch_series(rows, f"train/{key}") for key in ("lsp_term", "task_loss"))
    both, first, second = np.intersect1d(over, under, return_indices=True)
    known = task[second] > 0
    return (both[known], term[first][known] / task[second][known]) if known.any() else None


def _ended(rows: Rows, lsp_until: int | None) -> bool:
    """Whether there are epochs with the term and epochs after it."""
    had, epochs = epoch_series(rows, "train/lsp_term")[0], epoch_series(rows, "epoch")[0]
    return lsp_until is not None and bool(had.size) and bool((epochs >= lsp_until).any())


def _training_title(weight: Sequence[Line], ruler: Sequence[Line], ended: bool) -> str:
    parts = []
    if weight:
        last = {label: float(values[-1]) for label, _, _, values in weight}
        said = [f"{percent_in_words(value)} of the {_OF_WHAT[label]}" for label, value in last.items()]
        verb = "was" if ended else "is"
        parts.append(f"{'Before it ended' if ended else 'At the end'}, λ · L_LSP {verb} {' and '.join(said)}")
    if ruler:
        where, value = ruler[-1][0], float(ruler[-1][3][-1])
        text = f"in {where}, L_LSP on the common ruler ends at {value_in_words(value)}"
        parts.append(text if parts else text[0].upper() + text[1:])
    return "; ".join(parts) or "Loss by epoch"


_OF_WHAT = {
    "λ · L_LSP over the task loss": "task loss",
    "share of the gradient's length": "gradient",
}


def percent_in_words(percent: float) -> str:
    """To one of 100 above 1 %, to one digit below, ``less than 0.01 %`` where nearly nothing is left."""
    if 0 < percent < 0.01:
        return "less than 0.01 %"
    return f"{percent:.0f} %" if percent >= 1 or not percent else f"{percent:.1g} %"


def value_in_words(value: float) -> str:
    """Two digits, with a power of ten as it is written by hand: ``1.6·10⁻⁵``."""
    text = f"{value:.2g}"
    number, is_power, power = text.partition("e")
    if not is_power:
        return text.replace("-", "−")
    digits = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{number}·10{digits}".replace("-", "−")


def _draw_lines(axes: "Axes", lines: Sequence[Line]) -> bool:
    """Draws the lines; on a logarithmic axis, which it returns, if they span much and are all above 0."""
    for label, colour, epochs, values in lines:
        marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(epochs) < 3 else {}
        axes.plot(epochs, values, color=colour, label=label, **marker)
    values = np.concatenate([line[3] for line in lines])
    is_log = bool(values.min() > 0 and values.max() > LOG_FROM_RATIO * values.min())
    if is_log:
        _set_log(axes, float(values.min()), float(values.max()))
    else:
        axes.set_ylim(bottom=min(0.0, 1.05 * float(values.min())), top=1.08 * float(values.max()) or 1.0)
    return is_log


def _draw_limits(axes: "Axes", chance: float, most: float) -> None:
    """Between what the overlap of graphs lies, in [0, 1] each."""
    axes.axhline(100 * most, label="at most", zorder=1.8, **TEACHER_LINE)
    axes.axhline(
        100 * chance, label="by chance", color=MUTED, linewidth=1.3, linestyle=(0, (1, 1.5)), zorder=1.8
    )
    axes.set_ylim(0, max(108 * most, axes.get_ylim()[1]))


def _set_log(axes: "Axes", low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low / 1.3, 1.3 * high)
    subs = (1.0, 2.0, 5.0) if high < THREE_TICKS_BELOW * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _mark_end(each: Sequence["Axes"], epoch: int) -> None:
    for axes in each:
        axes.axvline(epoch - 0.5, color=INK, linewidth=1.0, zorder=1.5)
    each[0].annotate(
        f"L_LSP ended after {epoch} epoch{'s' if epoch > 1 else ''}",
        (epoch - 0.5, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(5, -4),
        textcoords="offset points",
        va="top",
        color=MUTED,
        fontsize=9.5,
    )


def _set_epochs(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Epoch")


@in_house_style
def draw_scores(
    rows: Rows,
    teacher: float | None,
    published: PublishedValue | None = None,
    tested: tuple[int, float] | None = None,
    *,
    metric: str = "f1",
    name: str = "Micro-F1",
) -> "Figure":
    """The student's score by epoch, with its teacher's and a published one as lines.

    Args:
        rows: one mapping an epoch: ``epoch``, ``train/<metric>`` and ``val/<metric>`` in [0, 1].
        teacher: its score on the same validation data, in [0, 1]; None where it is not at hand.
        published: a test result in [0, 1].
        tested: the epoch whose weights were tested, and their score on the test data in [0, 1].
        metric: key of the score.
        name: of the score.
    """
    lines = _lines(
        rows, ("training", TRAIN_COLOUR, f"train/{metric}"), ("validation", VAL_COLOUR, f"val/{metric}")
    )
    best = max((float(line[3].max()) for line in lines if line[0] == "validation"), default=None)
    figure, (axes,) = new_figure(_scores_title(best, teacher, name), height=4.9)
    for label, colour, epochs, values in lines:
        marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(epochs) < 3 else {}
        width = 2.0 if label == "validation" else 0.9
        axes.plot(epochs, 100 * values, color=colour, linewidth=width, label=label, **marker)
    if teacher is not None:
        axes.axhline(
            100 * teacher, label=f"teacher, validation: {100 * teacher:.1f}", zorder=2, **TEACHER_LINE
        )
    if published is not None:
        value, spread = 100 * published.value, published.spread
        label = f"published, test: {value:.4g}"
        if spread is not None:
            label += f" ± {100 * spread:.2g}"
            band = (value - 100 * spread, value + 100 * spread)
            axes.axhspan(*band, color=PUBLISHED_COLOUR, alpha=0.15, linewidth=0, zorder=1)
        axes.axhline(value, color=PUBLISHED_COLOUR, linewidth=1.3, linestyle=(0, (1, 1.5)), label=label)
    if tested is not None:
        epoch, score = tested
        style: dict[str, Any] = {"marker": "D", "markersize": 7, "markeredgecolor": "white", "zorder": 5}
        label = f"kept weights, test: {100 * score:.1f}"
        axes.plot(epoch, 100 * score, color=PUBLISHED_COLOUR, linestyle="none", label=label, **style)
    if not lines:
        axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=MUTED)
    axes.set_ylabel(f"{name} (%)")
    _set_epochs(axes)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower left", ncols=3)
    return figure


def _scores_title(best: float | None, teacher: float | None, name: str) -> str:
    if best is None:
        return f"{name} by epoch"
    title = f"The student reaches {100 * best:.1f} % in validation"
    if teacher is None:
        return title
    points = round(100 * best, 1) - round(100 * teacher, 1)
    if abs(points) < 0.05:
        return f"{title}, level with its teacher"
    return f"{title}, {abs(points):.1f} points {'above' if points > 0 else 'below'} its teacher"
