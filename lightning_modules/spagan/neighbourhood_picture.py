"""One node's neighbourhood, drawn with the paths it attends to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import (
    FAINT,
    INK,
    MUTED,
    class_colour,
    class_label,
    class_marker,
    in_house_style,
    new_figure,
    text_colour_on,
)
from lightning_modules.spagan.neighbourhood import Neighbourhood
from lightning_modules.spagan.pictures import length_colour, length_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THINNEST, THICKEST = 1.6, 9.0
GRAPH_INCHES = 5.4
# Half the width and height of a two-line label, and the radius of an attended node, in points.
LABEL_HALF = np.array([18.0, 10.5])
NODE_RADIUS = 6.5
# More labels than this cannot all be placed clear of each other.
MAX_LABELS = 20


@in_house_style
def draw_neighbourhood(neighbourhood: Neighbourhood, class_names: Sequence[str], note: str = "") -> "Figure":
    """The centre in the middle, hops as rings, kept paths as bands whose width is their weight.

    An edge used by paths of several lengths carries one band per length, side by side; a band's width is the
    sum over the paths that run through it. End nodes are labelled with their id and their paths' weight, the
    twenty heaviest if there are more.

    Args:
        neighbourhood: what to draw.
        class_names: names of the classes, by index.
        note: a line under the title, for instance how the node was chosen.
    """
    figure, (axes, side) = new_figure(
        _title(neighbourhood, class_names), columns=2, height=6.4, width_ratios=[GRAPH_INCHES, 2.4]
    )
    axes.set_title(note)
    axes.set_aspect("equal", anchor="N")
    position, depth = radial_layout(neighbourhood)
    reach = float(depth.max(initial=0)) + 0.45
    for panel in (axes, side):
        panel.set_axis_off()
    _draw_edges(axes, neighbourhood, position, int(depth.max(initial=0)))
    _draw_bands(axes, neighbourhood, position)
    _draw_nodes(axes, neighbourhood, position)
    _draw_labels(axes, neighbourhood, position, points_per_unit=72 * GRAPH_INCHES / (2 * reach))
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    _draw_legends(side, neighbourhood, class_names)
    return figure


def radial_layout(neighbourhood: Neighbourhood) -> tuple[np.ndarray, np.ndarray]:
    """Places every node on the ring of its hops, near the node through which it is reached.

    The kept paths form a tree (each prefix of a cheapest path is the cheapest path to its end); other nodes
    hang on to the first shown neighbour of fewest hops. Every leaf of the tree gets the same angle.

    Returns:
        ``[n, 2]`` coordinates, the centre at the origin, rings one apart; ``[n]`` ring of each node.
    """
    parent, depth = _tree(neighbourhood)
    children: list[list[int]] = [[] for _ in parent]
    for node in range(1, len(parent)):
        children[parent[node]].append(node)
    angle = np.zeros(len(parent))
    leaves = 0

    # Depth first, so that the leaves of a branch are neighbours on the circle. The tree is a few levels deep.
    def place(node: int) -> None:
        nonlocal leaves
        if not children[node]:
            angle[node] = leaves
            leaves += 1
            return
        for child in children[node]:
            place(child)
        angle[node] = np.mean([angle[child] for child in children[node]])

    place(0)
    turn = 2 * np.pi * angle / max(leaves, 1)
    # On a full ring nodes stand a little in and out by turns, to make room for their labels.
    is_crowded = np.bincount(depth)[depth] > 14
    radius = depth + np.where(is_crowded, 0.14 * (-1.0) ** np.round(angle), 0.0)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1), depth


def _tree(neighbourhood: Neighbourhood) -> tuple[list[int], np.ndarray]:
    """Parent and depth of every node; the centre is its own parent."""
    count = len(neighbourhood.node_ids)
    parent = [0] + [-1] * (count - 1)
    depth = np.zeros(count, dtype=int)
    for path in neighbourhood.paths:
        for before, node in zip(path.nodes, path.nodes[1:], strict=False):
            if parent[node] < 0:
                parent[node], depth[node] = before, depth[before] + 1
    adjacent: list[list[int]] = [[] for _ in range(count)]
    for a, b in neighbourhood.edges.tolist():
        adjacent[a].append(b)
        adjacent[b].append(a)
    for level in range(count):
        for node in [n for n in range(count) if parent[n] >= 0 and depth[n] == level]:
            for other in adjacent[node]:
                if parent[other] < 0:
                    parent[other], depth[other] = node, level + 1
    return parent, depth


def _draw_edges(axes: "Axes", neighbourhood: Neighbourhood, position: np.ndarray, rings: int) -> None:
    from matplotlib.patches import Circle

    for ring in range(1, rings + 1):
        dots = {"linewidth": 0.7, "linestyle": (0, (1, 4)), "zorder": 0}
        axes.add_patch(Circle((0, 0), ring, fill=False, edgecolor=FAINT, **dots))
    for a, b in neighbourhood.edges.tolist():
        axes.plot(*position[[a, b]].T, color=FAINT, linewidth=0.8, zorder=1)


def _draw_bands(axes: "Axes", neighbourhood: Neighbourhood, position: np.ndarray) -> None:
    from matplotlib.transforms import ScaledTranslation

    bands: dict[tuple[int, int], dict[int, float]] = {}
    for path in neighbourhood.paths:
        for step in zip(path.nodes, path.nodes[1:], strict=False):
            by_length = bands.setdefault(step, {})
            by_length[len(path.nodes)] = by_length.get(len(path.nodes), 0.0) + path.weight
    heaviest = max((weight for band in bands.values() for weight in band.values()), default=1.0)
    for (a, b), by_length in bands.items():
        widths = {c: max(THICKEST * weight / heaviest, THINNEST) for c, weight in sorted(by_length.items())}
        along = position[b] - position[a]
        across = np.array([-along[1], along[0]]) / np.hypot(*along)
        shift = -sum(widths.values()) / 2
        for length, width in widths.items():
            # Line widths are points, so the shift to the side has to be in points as well.
            x, y = (across * (shift + width / 2) / 72).tolist()
            aside = ScaledTranslation(x, y, axes.figure.dpi_scale_trans)
            shift += width
            axes.plot(
                *position[[a, b]].T,
                color=length_colour(length),
                linewidth=width,
                solid_capstyle="butt",
                zorder=2,
                transform=axes.transData + aside,
            )


def _draw_nodes(axes: "Axes", neighbourhood: Neighbourhood, position: np.ndarray) -> None:
    attended = {node for path in neighbourhood.paths for node in path.nodes}
    for node, (x, y) in enumerate(position.tolist()):
        label = int(neighbourhood.classes[node])
        is_centre, is_attended = node == 0, node in attended
        axes.plot(
            x,
            y,
            marker=class_marker(label),
            markersize=27 if is_centre else 2 * NODE_RADIUS if is_attended else 7,
            color=class_colour(label),
            markeredgecolor=INK if is_centre or is_attended else "white",
            markeredgewidth=2.4 if is_centre else 0.9,
            zorder=5 if is_centre else 4 if is_attended else 3,
        )
    colour = text_colour_on(class_colour(int(neighbourhood.classes[0])))
    middle: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 6}
    axes.text(0, 0, str(neighbourhood.node_ids[0]), fontsize=7.5, fontweight="bold", color=colour, **middle)


def _draw_labels(
    axes: "Axes", neighbourhood: Neighbourhood, position: np.ndarray, points_per_unit: float
) -> None:
    weight: dict[int, float] = {}
    for path in neighbourhood.paths:
        weight[path.nodes[-1]] = weight.get(path.nodes[-1], 0.0) + path.weight
    heaviest = sorted(weight, key=lambda node: (-weight[node], node))[:MAX_LABELS]
    offsets = place_labels(neighbourhood, position * points_per_unit, heaviest)
    for node, offset in offsets.items():
        axes.annotate(
            f"{neighbourhood.node_ids[node]}\n{100 * weight[node]:.1f} %",
            position[node],
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.5,
            linespacing=0.95,
            zorder=6,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )


def place_labels(
    neighbourhood: Neighbourhood, points: np.ndarray, labelled: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Where each label goes: of 16 places around its node, the one that hides least.

    One label after the other; a place pays for labels already placed, nodes, bands and faint edges under it,
    in this order of dearness, and a little for not pointing outwards.

    Args:
        neighbourhood: what is drawn.
        points: ``[n, 2]`` positions in points.
        labelled: nodes that carry a label.

    Returns:
        Offset of the label's middle from its node, in points.
    """
    steps = np.linspace(0.0, 1.0, 25)[:, None]
    bands = {step for path in neighbourhood.paths for step in zip(path.nodes, path.nodes[1:], strict=False)}
    on_bands = [points[a] + steps * (points[b] - points[a]) for a, b in sorted(bands)]
    on_edges = [points[a] + steps * (points[b] - points[a]) for a, b in neighbourhood.edges.tolist()]
    costly = ((points, 30.0, NODE_RADIUS), (_stack(on_bands), 1.5, 3.0), (_stack(on_edges), 0.3, 0.0))
    placed: list[np.ndarray] = []
    offsets = {}
    for node in labelled:
        outwards = np.arctan2(points[node, 1], points[node, 0])
        best, least = np.zeros(2), np.inf
        for place in range(16):
            turn = outwards + 2 * np.pi * place / 16
            direction = np.array([np.cos(turn), np.sin(turn)])
            # The nearest spot in this direction where the label's box clears the node.
            gap = (NODE_RADIUS + LABEL_HALF + 1.0) / np.maximum(np.abs(direction), 1e-9)
            offset = direction * gap.min()
            middle = points[node] + offset
            cost = 0.5 * (1 - np.cos(turn - outwards))
            for spots, price, margin in costly:
                cost += price * np.count_nonzero((np.abs(spots - middle) < LABEL_HALF + margin).all(axis=1))
            cost += 60.0 * sum(bool((np.abs(other - middle) < 2 * LABEL_HALF).all()) for other in placed)
            if cost < least:
                best, least = offset, cost
        placed.append(points[node] + best)
        offsets[node] = (float(best[0]), float(best[1]))
    return offsets


def _stack(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty((0, 2))


def _draw_legends(side: "Axes", neighbourhood: Neighbourhood, class_names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    def entry(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **({"linestyle": "none"} | style))

    edge = {"markersize": 9, "markeredgecolor": INK, "markeredgewidth": 0.7}
    classes = [
        entry(class_label(class_names, c), marker=class_marker(c), color=class_colour(c), **edge)
        for c in sorted(set(neighbourhood.classes.tolist()))
    ]
    by_length: dict[int, float] = {}
    for path in neighbourhood.paths:
        by_length[len(path.nodes)] = by_length.get(len(path.nodes), 0.0) + path.weight
    weights = [
        entry(f"{length_label(c)}: {100 * share:.0f} %", color=length_colour(c), linewidth=5, linestyle="-")
        for c, share in sorted(by_length.items())
    ]
    weights.append(entry(f"itself: {100 * neighbourhood.self_weight:.0f} %"))
    if neighbourhood.hidden_paths:
        share = f"{100 * neighbourhood.hidden_weight:.0f} %"
        weights.append(entry(f"{neighbourhood.hidden_paths} paths not shown: {share}"))
    weights.append(entry("other edges", color=FAINT, linewidth=1, linestyle="-"))
    if neighbourhood.hidden_nodes:
        weights.append(entry(f"{neighbourhood.hidden_nodes} nearby nodes\nnot shown"))
    style: dict[str, Any] = {"alignment": "left", "borderaxespad": 0, "handlelength": 1.6}
    upper = side.legend(handles=classes, title="Class", loc="upper left", **style)
    side.add_artist(upper)  # or the second legend would replace the first
    lower = side.legend(handles=weights, title="Weight (α·β)", loc="lower left", **style)
    for legend in (upper, lower):
        legend.get_title().set_color(MUTED)


def _title(neighbourhood: Neighbourhood, class_names: Sequence[str]) -> str:
    far = sum(path.weight for path in neighbourhood.paths if len(path.nodes) > 2)
    name = class_label(class_names, int(neighbourhood.classes[0]))
    return f"Node {neighbourhood.node_ids[0]} ({name}): {100 * far:.0f} % of its weight beyond neighbours"
