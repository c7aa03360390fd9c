"""Which blocks NetGraft trains in which phase."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from harness.errors import UserError

STAGE1 = "stage1"
T = TypeVar("T")
Joining = Literal["front", "random", "at_once", "none"]


@dataclass(frozen=True)
class Stages:
    """The phases of a run.

    Attributes:
        blocks: numbers of the grafted blocks, ascending.
        stage1: whether they are trained alone first.
        stage2: how they are joined: from the ``front``, in ``random`` order, all ``at_once`` or not at all
            (``none``).
        seed: of the random order.

    Raises:
        UserError: if there is nothing to train, or nothing to join.
    """

    blocks: tuple[int, ...]
    stage1: bool
    stage2: Joining
    seed: int

    def __post_init__(self) -> None:
        if not self.stage1 and self.stage2 == "none":
            raise UserError(
                "model.stage1=false and model.stage2=none leave nothing to train. Set model.stage2=at_once to"
                " train all blocks together."
            )
        if self.stage1 and self.stage2 != "none" and len(self.blocks) == 1:
            raise UserError(
                f"model.grafted={[*self.blocks]} has one block, which stage 1 trains: there is nothing to"
                " join. Set model.stage2=none."
            )

    @cached_property
    def joins(self) -> tuple[tuple[int, ...], ...]:
        """The blocks that stand together in each phase of stage 2, ascending."""
        order = list(self.blocks)
        if self.stage2 == "none":
            return ()
        if self.stage2 == "at_once":
            return (self.blocks,)
        if self.stage2 == "random":
            random.Random(self.seed).shuffle(order)
        # a block that was trained alone has nothing to learn by standing alone again
        first = 2 if self.stage1 else 1
        return tuple(tuple(sorted(order[:number])) for number in range(first, len(order) + 1))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the phases: ``stage1``, then ``join_<block>`` by the block that comes in, or ``join_all``."""
        if self.stage2 == "at_once":
            joins = ["join_all"]
        else:
            before: tuple[tuple[int, ...], ...] = ((), *self.joins)
            joins = [f"join_{max({*one} - {*old})}" for old, one in zip(before, self.joins, strict=False)]
        return (*((STAGE1,) if self.stage1 else ()), *joins)

    def joined(self, phase_index: int) -> tuple[int, ...]:
        """The blocks that stand together in a phase; empty in stage 1."""
        number = phase_index - (1 if self.stage1 else 0)
        return self.joins[number] if number >= 0 else ()


def per_block(key: str, value: T | list[T], blocks: Sequence[int]) -> dict[int, T]:
    """A setting of each block, by its number.

    Args:
        key: of the configuration, for the message.
        value: a list with one for each of ``blocks``, or one for all.
        blocks: their numbers.

    Raises:
        UserError: a list of another length.
    """
    if not isinstance(value, list):
        return dict.fromkeys(blocks, value)
    if len(value) != len(blocks):
        raise UserError(
            f"model.{key}={value} must hold one value for each grafted block ({', '.join(map(str, blocks))}),"
            " or be one number for all."
        )
    return dict(zip(blocks, value, strict=True))
