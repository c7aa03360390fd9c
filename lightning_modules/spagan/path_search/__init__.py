"""Sets of cheapest paths around every node, and the searches that find them.

``find_paths`` is the entry. Three searches share its input checks, tie rule and sampling:
``exact`` (compiled best-first), ``scipy`` (the same sets without a compiler) and ``hop_limited`` (torch, also
on a GPU; differs from the exact sets where a longer path undercuts a short one).
"""

from lightning_modules.spagan.path_search.find import Choice, Search, find_paths, warm_up
from lightning_modules.spagan.path_search.paths import PathSets

__all__ = ["Choice", "PathSets", "Search", "find_paths", "warm_up"]
