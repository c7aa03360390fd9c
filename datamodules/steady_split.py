"""A random split in which what is placed stays where it is, whatever is added later."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

Part = TypeVar("Part", bound=str)


def steady_split(
    names: Sequence[str], shares: Mapping[Part, float], seed: int
) -> tuple[dict[Part, list[str]], dict[str, Part]]:
    """Puts each name into the part in whose stretch of [0, 1) its own random number lies.

    The number follows from ``seed`` and the name alone, so that no name moves when others are added or
    removed. The sizes of the parts are therefore those of independent draws, and right on average only.

    One rule departs from this, and only while a part would be empty: it borrows from the parts of more than
    one name the one whose number lies nearest to its stretch. The name goes back once the part has one of its
    own, and another one nearer still takes its place before that.

    Args:
        names: different from each other, at least as many as there are parts.
        shares: of the parts, above 0; together 1. Their order is that of their stretches: the share of one
            part does not move what lies in a part before it.
        seed: of the draws.

    Returns:
        The names of each part, in the order of ``names``; and where each borrowed name is.

    Raises:
        ValueError: there are fewer names than parts.
    """
    parts = list(shares)
    if len(names) < len(parts):
        raise ValueError(f"{len(names)} names cannot fill {len(parts)} parts")
    ends = list(accumulate(shares.values()))
    ends[-1] = 1.0  # whatever rounding made of the sum
    draws = {name: uniform(name, seed) for name in names}
    members: dict[Part, list[str]] = {part: [] for part in parts}
    for name, draw in draws.items():
        members[parts[bisect_right(ends, draw)]].append(name)
    borrowed: dict[str, Part] = {}
    for part, start, end in zip(parts, [0.0, *ends], ends, strict=False):
        if not members[part]:
            lenders = [lender for lender in parts if len(members[lender]) > 1]
            distances = {
                (max(start - draws[name], draws[name] - end), name): lender
                for lender in lenders
                for name in members[lender]
            }
            nearest = min(distances)
            members[distances[nearest]].remove(nearest[1])
            members[part].append(nearest[1])
            borrowed[nearest[1]] = part
    return members, borrowed


def uniform(name: str, seed: int) -> float:
    """A number in [0, 1) that follows from a name and a seed: 53 bits of a SHA-256."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:8]) >> 11) / (1 << 53)
