"""Labeling functions suggested from a few examples, and how sure it is that they are right.

Candidates are searched on one half of the rows and judged on the other, which they have never
seen. A row counts as right by the probability that the label model gives to the voted class, or
wholly where its label is known. A function is accepted only if the lower bound of its precision
clears the threshold; as several are judged at once, the bounds hold together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.labeling.partial import Votes

Declared = dict[str, Any]
Apply = Callable[[Declared, pa.RecordBatch], Votes]
"""(what the project file would say, rows) -> int8[n] votes."""
ERROR = 0.05
"""Probability that any bound of a suggestion is too high."""
THRESHOLD = 0.7
_SAME = 0.9
_LEAST_GOLD = 3


@dataclass(frozen=True)
class Believed:
    """Rows and what is believed of them.

    Attributes:
        batch: Columns of `raw`.
        belief: float64[n, k], probabilities of the classes.
        known: bool[n], whether anything is believed: a function votes, or the label is known.
        gold: bool[n], whether people said it.
        votes: int8[n, m], of the functions that there are.
        functions: Their names.
    """

    batch: pa.RecordBatch
    belief: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]
    gold: npt.NDArray[np.bool_]
    votes: Votes
    functions: tuple[str, ...] = ()

    def part(self, mask: npt.NDArray[np.bool_], most: int | None = None) -> Believed:
        """Return some rows; with `most` that many at most, spread over all days."""
        where = np.flatnonzero(mask)
        if most is not None and len(where) > most:
            where = where[np.linspace(0, len(where) - 1, most).astype(np.int64)]
        return Believed(
            self.batch.take(pa.array(where)), self.belief[where], self.known[where],
            self.gold[where], self.votes[where], self.functions,
        )  # fmt: skip


@dataclass(frozen=True)
class Suggestion:
    """A labeling function that might be added.

    Attributes:
        name: Of the function.
        declared: What the project file would say.
        hits: Held-out rows it votes on of which something is believed.
        coverage: Share of all held-out rows it votes on.
        new: Share of all held-out rows it votes on and no function of today does.
        precision: Expected share of the hits that are right, with the bounds `low` and `high`.
        gold_hits / gold_right: Of those whose label people gave.
        accepted: Whether `low` clears the threshold and nothing speaks against it.
        why: In words.
    """

    name: str
    declared: Declared
    hits: int
    coverage: float
    new: float
    precision: float
    low: float
    high: float
    gold_hits: int
    gold_right: int
    accepted: bool
    why: str


def interval(right: float, n: int, error: float = ERROR) -> tuple[float, float]:
    """Return the bounds of a share, each wrong with probability `error` (Wilson 1927).

    Args:
        right: Successes, or expected successes.
        n: Trials; (0, 1) without any.
        error: Of one side.

    Example:
        >>> [round(x, 2) for x in interval(18, 20)]
        [0.74, 0.97]
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(1 - error)
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def expected(votes: Votes, rows: Believed) -> tuple[float, int]:
    """Return how many of the votes are expected to be right, and how many can be judged."""
    hit = np.flatnonzero((votes >= 0) & rows.known)
    return float(rows.belief[hit, votes[hit]].sum()), len(hit)


def first_that_holds(
    variants: Sequence[Declared], rows: Believed, apply: Apply, threshold: float, least: int
) -> Declared | None:
    """Return the first variant whose precision clears the threshold on rows for the search.

    Args:
        variants: The same function, from wide to strict.
        rows: Rows for the search.
        apply: Runs a function.
        threshold: For the lower bound.
        least: Hits below which a variant is none.
    """
    for declared in variants:
        right, n = expected(apply(declared, rows.batch), rows)
        if n < least:
            return None
        if interval(right, n)[0] >= threshold:
            return declared
    return None


def judge(
    candidates: Sequence[Declared], rows: Believed, apply: Apply, threshold: float,
    most: Mapping[str, int],
) -> list[Suggestion]:  # fmt: skip
    """Return what held-out rows say of each candidate; accepted ones first, then by coverage.

    Args:
        candidates: What was found on other rows.
        rows: Rows that no candidate has seen.
        apply: Runs a function.
        threshold: For the lower bound of the precision.
        most: Kind -> rows that a function of it is run on at most.
    """
    error = ERROR / max(len(candidates), 1)
    found = []
    for declared in candidates:
        limit = most.get(declared["kind"])
        held = rows if limit is None else rows.part(np.ones(len(rows.known), np.bool_), limit)
        votes = apply(declared, held.batch)
        right, n = expected(votes, held)
        low, high = interval(right, n, error)
        hit = votes >= 0
        told = held.gold & hit
        gold_right = int(held.belief[np.flatnonzero(told), votes[told]].sum())
        against = _against(gold_right, int(told.sum()), threshold) or _echo(votes, held)
        clears = low >= threshold
        why = against or (
            f"at least {low:.2f} of its votes are right" if clears
            else f"only {low:.2f} of its votes are surely right, {threshold:.2f} must be"
        )  # fmt: skip
        found.append(Suggestion(
            declared["name"], declared, n, float(hit.mean()) if len(hit) else 0.0,
            float((hit & ~(held.votes >= 0).any(axis=1)).mean()) if len(hit) else 0.0,
            right / n if n else 0.0, low, high, int(told.sum()), gold_right,
            clears and not against, why,
        ))  # fmt: skip
    return sorted(found, key=lambda s: (not s.accepted, -s.coverage, s.name))


def _against(right: int, n: int, threshold: float) -> str:
    """Return that people contradict, where they surely do."""
    contradicted = n >= _LEAST_GOLD and interval(right, n)[1] < threshold
    return f"people agree with {right} of {n} of its votes" if contradicted else ""


def _echo(votes: Votes, rows: Believed) -> str:
    """Return which function of today says nearly the same, if one does."""
    for name, other in zip(rows.functions, rows.votes.T, strict=True):
        mine = votes >= 0
        either = int((mine | (np.isin(other, votes[mine]) & (other >= 0))).sum())
        if either and int((mine & (votes == other)).sum()) / either >= _SAME:
            return f"{name} says nearly the same"
    return ""
