"""The house style of every picture: sizes, fonts, colours, and how a picture reaches the disk.

matplotlib is imported inside functions, so that importing this module costs nothing. Figures are made with
``matplotlib.figure.Figure`` and never through pyplot: nothing is left open and no display is needed.
"""

import functools
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from harness.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

INK = "#1f2328"
MUTED = "#5f6873"
FAINT = "#c9ced6"
GRID = "#e6e9ee"

# Okabe and Ito (2008), "Color Universal Design": eight hues that stay apart under the common kinds of colour
# blindness. Their yellow is darkened, since it vanishes on white.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#4d4d4d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WIDTH_INCHES = 8.0
HEIGHT_INCHES = 4.5
DOTS_PER_INCH = 200

# Any: matplotlib types the keys as a list of literals, which is known only once it is imported.
HOUSE_STYLE: Any = {
    "font.family": "sans-serif",
    # matplotlib ships this one, so a picture looks the same on every machine.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
    "text.usetex": False,
    "figure.facecolor": "white",
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "axes.facecolor": "white",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titleweight": "normal",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.title_fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def in_house_style(draw: "Callable[Arguments, Figure]") -> "Callable[Arguments, Figure]":
    """``draw`` run under the house style; the caller's own matplotlib settings are left as they were."""

    @functools.wraps(draw)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(HOUSE_STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(
    title: str,
    *,
    rows: int = 1,
    columns: int = 1,
    height: float = HEIGHT_INCHES,
    width: float = WIDTH_INCHES,
    **subplots: Any,
) -> "tuple[Figure, list[Axes]]":
    """An empty figure with its title and axes; call it from a function marked ``in_house_style``.

    Args:
        title: what the picture shows or finds; wrapped to the width, set at the left edge.
        rows: rows of axes.
        columns: columns of axes.
        height: inches.
        width: inches.
        subplots: passed on to ``Figure.subplots`` (``sharex``, ``height_ratios``, ...).

    Returns:
        The figure and its axes, row by row.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    # A bold letter of 13 points is about 0.105 inch wide.
    lines = textwrap.wrap(title, width=max(int((width - 0.2) / 0.105), 20))
    figure.suptitle("\n".join(lines), x=0.012, ha="left")
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    return figure, list(axes.flat)


def class_colour(index: int) -> str:
    """Colour of class ``index``; repeats after eight, which is why ``class_marker`` changes then."""
    return PALETTE[index % len(PALETTE)]


def class_marker(index: int) -> str:
    """Marker of class ``index``: one shape for the first eight classes, the next for the next eight."""
    return MARKERS[index // len(PALETTE) % len(MARKERS)]


def class_label(names: Sequence[str], index: int) -> str:
    """A class name fit for reading: underscores become spaces; ``class 7`` where no name is known."""
    return names[index].replace("_", " ") if index < len(names) else f"class {index}"


def text_colour_on(colour: str) -> str:
    """White or ink, whichever can be read on ``colour``."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return "white" if 0.30 * red + 0.59 * green + 0.11 * blue < 0.5 else INK


def save_png(figure: "Figure", path: str | Path) -> Path:
    """Writes ``figure`` to ``path`` as PNG, whole or not at all.

    A reader (a dashboard, a run killed half-way) never meets half a picture. Missing folders are made.

    Returns:
        ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        # No software version inside: equal pictures are equal files.
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})

    write_atomically(path, write)
    return path
