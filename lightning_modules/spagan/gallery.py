"""Which pictures a trained SPAGAN shows, in order; each is drawn by a function of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch_geometric.data import Data

from harness.comparison import Score, draw_method_comparison
from lightning_modules.spagan import neighbourhood, neighbourhood_picture, pictures
from lightning_modules.spagan.diagnostics import Diagnostics, path_weights
from lightning_modules.spagan.layers import PathAttentionWeights
from lightning_modules.spagan.path_search import PathSets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOICE_OF_NODE = "A test node of moderate degree that puts much weight on paths of three nodes and more"


def gallery(
    graph: Data,
    paths: PathSets,
    weights: PathAttentionWeights,
    diagnostics: Diagnostics,
    class_names: Sequence[str],
    scores: Sequence[Score],
    unchanged: Sequence[Mapping[int, float]],
) -> Iterator[tuple[str, "Figure"]]:
    """Pictures as (file name without ending, figure).

    Args:
        graph: the graph that SPAGAN was trained on.
        paths: its path sets, on the device of ``graph``.
        weights: the path layer's attention on them.
        diagnostics: what ``diagnose`` made of both, ``found`` counting all paths.
        class_names: one per class.
        scores: of the networks to compare; no comparison is drawn of a single one.
        unchanged: per rebuilding of the paths, the share that stayed, by length.
    """
    found = diagnostics
    if len(scores) > 1:
        yield "method_comparison", draw_method_comparison(scores, int(graph.test_mask.sum()))
    yield "edge_costs", pictures.draw_cost_histogram(found.costs)
    counts = pictures.draw_path_counts(found.lengths, found.found, found.kept, found.self_paths)
    yield "path_counts", counts
    sizes = torch.bincount(graph.y, minlength=len(class_names)).cpu().numpy()
    yield (
        "length_attention",
        pictures.draw_length_attention(found.lengths, found.mean_beta, class_names, sizes),
    )
    yield "path_attention", pictures.draw_attention_spread(found.self_share, found.entropy)
    agreement = (found.agreement, found.weighted_agreement, found.homophily, found.chance)
    yield "label_agreement", pictures.draw_label_agreement(found.lengths, *agreement)
    if unchanged:
        yield "unchanged_paths", pictures.draw_unchanged_paths(unchanged)
    if bool(graph.test_mask.any()):
        path_weight = path_weights(paths.nodes, weights.alpha, weights.beta)
        centre = neighbourhood.choose_node(paths.nodes, path_weight, graph.edge_index, graph.test_mask)
        cut = neighbourhood.extract_neighbourhood(centre, paths.nodes, path_weight, graph.edge_index, graph.y)
        picture = neighbourhood_picture.draw_neighbourhood(cut, class_names, CHOICE_OF_NODE)
        yield "neighbourhood", picture
