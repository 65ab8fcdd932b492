"""What the labeling functions did over some days: the counts of the days added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from fm_platform.labeling.counts import (
    BELIEVED,
    CONFLICT,
    FIXED,
    MILLION,
    OVERLAP,
    ROWS,
    SPREAD,
    VOTED,
    DayCounts,
    GoldRow,
)
from fm_platform.labeling.diagnostics import wilson
from fm_platform.labeling.patterns import Floats
from fm_platform.labeling.slices import ALL

TOGETHER = "*"
"""Stands for all functions together."""
_Z95 = 1.959963984540054


@dataclass
class Totals:
    """Counts of several days, for the functions of the last of them.

    Attributes:
        functions: Their names, `*` last.
        classes: k names.
        cells: (source, slice) -> float64[m + 1, 6 + k]; the source `all` is all of them.
        pairs: float64[2, m, m], all sources together.
        gold: Dev gold rows.
        days: (day, its counts alone), oldest first.
    """

    functions: tuple[str, ...]
    classes: tuple[str, ...]
    cells: dict[tuple[str, str], Floats] = field(default_factory=dict)
    pairs: Floats = field(default_factory=lambda: np.zeros((2, 0, 0)))
    gold: list[GoldRow] = field(default_factory=list)
    days: list[tuple[str, Floats]] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        """The sources that have rows, sorted."""
        return sorted({source for source, _ in self.cells} - {ALL})

    @property
    def slices(self) -> list[str]:
        """The declared slices, in the order in which they came."""
        return list(dict.fromkeys(name for _, name in self.cells if name != ALL))


def add_up(days: Sequence[tuple[str, DayCounts]], budget: int, source: str | None = None) -> Totals:
    """Add days up.

    Args:
        days: (day, counts), oldest first; at least one. The functions are those of the last day.
        budget: Dev gold rows of each source that may be read; the first by day and row id.
        source: Only rows of this source.
    """
    newest = days[-1][1]
    names = (*newest.functions, TOGETHER)
    totals = Totals(names, newest.classes)
    m, width = len(newest.functions), FIXED + len(newest.classes)
    totals.pairs = np.zeros((2, m, m))
    left: dict[str, int] = {}
    for day, counts in days:
        of_day = np.zeros((m + 1, width))
        taken, place = _columns(newest, counts)
        for (name, slice_), numbers in sorted(counts.cells.items()):
            if source not in (None, name):
                continue
            own = np.zeros((m + 1, width))
            own[np.ix_(place, taken[1])] = numbers[np.ix_(taken[0], taken[2])]
            for key in ((name, slice_), (ALL, slice_)):
                totals.cells[key] = totals.cells.get(key, np.zeros((m + 1, width))) + own
            if slice_ == ALL:
                of_day += own
        both = [(new, old) for new, old in zip(place, taken[0], strict=True) if new < m]
        new, old = [one for one, _ in both], [other for _, other in both]
        for name, pairs in sorted(counts.pairs.items()):
            if source in (None, name):
                for side in (0, 1):
                    totals.pairs[side][np.ix_(new, new)] += pairs[side][np.ix_(old, old)]
        totals.days.append((day, of_day))
        for row in counts.gold:
            if source not in (None, row.source) or left.get(row.source, 0) >= budget:
                continue
            left[row.source] = left.get(row.source, 0) + 1
            right = [-1] * m
            for here, there in both:
                right[here] = row.right[there]
            totals.gold.append(GoldRow(row.row_id, row.source, row.slices, row.label, tuple(right)))
    return totals


def records(totals: Totals) -> list[dict[str, Any]]:
    """Return one record for each function, source and slice with rows; `*` is all functions.

    `estimated` is how often the label model believes the function's votes right; its interval is
    that of the mean of as many such rows, if the model is right. `dev` is how often they are on
    the dev gold rows, with the interval of Wilson.
    """
    found = []
    for (source, slice_), numbers in sorted(totals.cells.items(), key=_order):
        for position, name in enumerate(totals.functions):
            cell = numbers[position]
            if cell[ROWS]:
                gold = _dev(totals.gold, position, source, slice_) if name != TOGETHER else None
                found.append(
                    {"function": name, "source": source, "slice": slice_}
                    | _shares(cell, totals.classes)
                    | {"dev": gold}
                )
    return found


def series(totals: Totals) -> dict[str, list[dict[str, Any]]]:
    """Return function -> one record of each day on which it saw rows."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in totals.functions}
    for day, numbers in totals.days:
        for position, name in enumerate(totals.functions):
            if numbers[position][ROWS]:
                told[name].append({"day": day} | _shares(numbers[position], totals.classes))
    return told


def against(totals: Totals) -> dict[str, list[dict[str, Any]]]:
    """Return function -> the others it contradicts or repeats, the most contradicted first.

    `share_of_conflicts` is the other's part in all contradictions of the function with others,
    pair by pair; `same` the share of the rows on which either votes where both vote alike.
    """
    both, apart = totals.pairs
    voted = totals.cells[(ALL, ALL)][:, VOTED]
    found: dict[str, list[dict[str, Any]]] = {}
    for i, name in enumerate(totals.functions[:-1]):
        everything = float(apart[i].sum())
        listed = []
        for j, other in enumerate(totals.functions[:-1]):
            either = float(voted[i] + voted[j] - both[i, j])
            if i == j or not both[i, j]:
                continue
            listed.append(
                {
                    "function": other,
                    "both": int(both[i, j]),
                    "contradict": int(apart[i, j]),
                    "share_of_conflicts": _share(apart[i, j], everything),
                    "same": _share(both[i, j] - apart[i, j], either),
                }
            )
        found[name] = sorted(listed, key=lambda one: (-one["contradict"], one["function"]))
    return found


def _columns(newest: DayCounts, counts: DayCounts) -> tuple[tuple[list[int], ...], list[int]]:
    """Return where functions and classes of a day stand among those of the newest one.

    Returns:
        (rows of the day, columns here, columns of the day), and the rows here.
    """
    mine = [*newest.functions, TOGETHER]
    theirs = [*counts.functions, TOGETHER]
    common = [name for name in mine if name in theirs]
    classes = [name for name in newest.classes if name in counts.classes]
    here = [*range(FIXED), *(FIXED + newest.classes.index(name) for name in classes)]
    there = [*range(FIXED), *(FIXED + counts.classes.index(name) for name in classes)]
    rows = [theirs.index(name) for name in common]
    return (rows, here, there), [mine.index(name) for name in common]


def _shares(cell: Floats, classes: Sequence[str]) -> dict[str, Any]:
    rows, voted = float(cell[ROWS]), float(cell[VOTED])
    told: dict[str, Any] = {
        "rows": int(rows),
        "votes": int(voted),
        "coverage": _share(voted, rows),
        "overlap": _share(cell[OVERLAP], rows),
        "conflict": _share(cell[CONFLICT], rows),
        "estimated": None,
        "by_class": {
            name: int(cell[FIXED + i]) for i, name in enumerate(classes) if cell[FIXED + i]
        },
    }
    if voted:
        value = float(cell[BELIEVED]) / MILLION / voted
        width = _Z95 * sqrt(max(float(cell[SPREAD]) / MILLION, 0.0)) / voted
        told["estimated"] = {
            "value": round(value, 4),
            "low": round(max(0.0, value - width), 4),
            "high": round(min(1.0, value + width), 4),
        }
    return told


def _dev(gold: Sequence[GoldRow], position: int, source: str, slice_: str) -> dict[str, Any]:
    """Return how often a function is right on dev gold rows, beside the commonest class there."""
    rows = [
        row
        for row in gold
        if row.right[position] >= 0
        and source in (ALL, row.source)
        and (slice_ == ALL or slice_ in row.slices)
    ]
    n, right = len(rows), sum(row.right[position] for row in rows)
    low, high = wilson(right, n)
    labels = [row.label for row in rows]
    commonest = max((labels.count(name) for name in sorted(set(labels))), default=0)
    return {
        "n": n,
        "right": right,
        "value": _share(right, n) if n else None,
        "low": round(low, 4),
        "high": round(high, 4),
        "commonest_class": _share(commonest, n) if n else None,
    }


def _share(part: float, whole: float) -> float:
    return round(float(part) / float(whole), 4) if whole else 0.0


def _order(item: tuple[tuple[str, str], Floats]) -> tuple[bool, str, bool, str]:
    source, slice_ = item[0]
    return source != ALL, source, slice_ != ALL, slice_
