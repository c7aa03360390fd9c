"""Value ranges for constructor annotations.

The configuration check reads these from signatures without importing torch, so nothing heavy may be
imported here.
"""

from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A rate in ``[0, 1)``, such as dropout: at 1 nothing would be left."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share in ``[0, 1]``."""

TwoOrMore = Annotated[int, Field(ge=2)]
"""A number of samples that has a spread."""

PathLength = Annotated[int, Field(ge=2, le=512)]
"""Nodes of a path, both ends counted: 2 for a direct neighbour; 512 is the most that a search can follow."""

ClassSpec = dict[str, Any]
"""A class of a fixed module and its keywords, ``{name: Adam, lr: 0.005}``."""

NetworkSpec = str | dict[str, Any]
"""A network by name, ``vgg16``, or by its arguments, ``{name: vgg, widths: [[64, 64], [128, 128]], ...}``."""

__all__ = [
    "ClassSpec",
    "Fraction",
    "NetworkSpec",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PathLength",
    "PositiveFloat",
    "PositiveInt",
    "Probability",
    "TwoOrMore",
]
