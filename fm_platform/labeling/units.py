"""Votes packed for label models: a row becomes a few numbers, each a pattern of a few functions.

The functions are divided into units of which the joint pattern fits a small table. What a model
says of a row is then a sum over units of looked-up table rows, and what an EM step learns of a
unit is the class mass behind each row of its table: both cost as many look-ups as there are
units, whatever the number of functions, and all else happens on the small tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.partial import NO_SETS, ClassSets, check
from fm_platform.labeling.patterns import (
    LARGEST_CODE,
    Floats,
    Ints,
    Votes,
    codes,
    decode,
    distinct,
)

Groups = tuple[tuple[int, ...], ...]
_TABLE_ROWS = 8_192
"""A table of float64[8192, k] stays in the processor's cache."""


@dataclass(frozen=True)
class Unit:
    """Some functions and the different patterns of their votes.

    Attributes:
        members: Their positions.
        joint: Whether they are a group that copies one hidden source.
        table: int8[s, members], the different patterns.
        index: int32[p], the pattern of each row.
        first, digits: The least vote there may be, and how many different ones.
    """

    members: tuple[int, ...]
    joint: bool
    table: Votes
    index: npt.NDArray[np.int32]
    first: int
    digits: int

    @cached_property
    def hot(self) -> Floats:
        """Which member votes what, float64[s, members * digits]; votes from `first` upwards."""
        wanted = np.arange(self.first, self.first + self.digits, dtype=np.int8)
        hot = self.table[:, :, None] == wanted
        flat: Floats = hot.reshape(len(self.table), self.table.shape[1] * self.digits).astype(
            np.float64
        )
        return flat


@dataclass(frozen=True)
class Packed:
    """Weighted rows of votes, by unit.

    Attributes:
        units: Together they hold each function once.
        weights: float64[p], how many rows each stands for.
        n_functions: m.
        n_classes: k.
        sets: What votes below -1 mean.
    """

    units: tuple[Unit, ...]
    weights: Floats
    n_functions: int
    n_classes: int
    sets: ClassSets = NO_SETS

    @cached_property
    def totals(self) -> list[Floats]:
        """Weight of each table row of each unit."""
        return [
            np.bincount(unit.index, self.weights, len(unit.table)).astype(np.float64)
            for unit in self.units
        ]

    def head(self, rows: int) -> Packed:
        """Return the first rows only."""
        units = tuple(replace(unit, index=unit.index[:rows]) for unit in self.units)
        return Packed(units, self.weights[:rows], self.n_functions, self.n_classes, self.sets)


def pack(
    votes: Votes,
    weights: Floats | Ints | None,
    n_classes: int,
    groups: Groups = (),
    sets: ClassSets = NO_SETS,
) -> Packed:
    """Return votes by unit.

    Args:
        votes: int8[p, m].
        weights: float64[p], or None for one each.
        n_classes: k.
        groups: Functions that copy one another; each such group is a unit of its own.
        sets: What votes below -1 mean.

    Raises:
        ValueError: If a vote is no class and no set.
    """
    check(votes, n_classes, sets)
    m = votes.shape[1]
    base = n_classes + 1 + len(sets.sets)
    joint = [tuple(group) for group in groups if len(group) > 1]
    grouped = {function for group in joint for function in group}
    alone = [function for function in range(m) if function not in grouped]
    most = max(1, int(np.log(_TABLE_ROWS) / np.log(base)))
    chunks = -(-len(alone) // most)
    plain = [
        tuple(part.tolist()) for part in np.array_split(np.array(alone, np.int64), chunks or 1)
    ]
    units = [_unit(votes, members, False, base, len(sets.sets)) for members in plain if members]
    units += [_unit(votes, members, True, base, len(sets.sets)) for members in joint]
    counted = np.ones(len(votes)) if weights is None else np.asarray(weights, np.float64)
    return Packed(tuple(units), counted, m, n_classes, sets)


def _unit(votes: Votes, members: Sequence[int], joint: bool, base: int, n_sets: int) -> Unit:
    space = base ** len(members)
    if space > LARGEST_CODE:
        chosen = np.ascontiguousarray(votes[:, list(members)])
        table, inverse = np.unique(chosen, axis=0, return_inverse=True)
        index = inverse.reshape(-1).astype(np.int32)
        return Unit(tuple(members), joint, table, index, -1 - n_sets, base)
    code = codes(votes, members, base, n_sets)
    used, index = distinct(code, space)
    table = decode(used, len(members), base, n_sets)
    return Unit(tuple(members), joint, table, index, -1 - n_sets, base)
