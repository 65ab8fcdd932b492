"""Vote matrices as patterns: each different row once, with how often it came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.partial import NO_SETS, ClassSets, check, renumber

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Votes = npt.NDArray[np.int8]
"""int8[n, m]: class index of each row and function, -1 where it abstains, below that a set."""

LARGEST_CODE = 2**62
_DENSE = 1 << 16
_MOST_PATTERNS = 1 << 20


def unique_patterns(
    votes: Votes, n_classes: int, sets: ClassSets = NO_SETS
) -> tuple[Votes, Ints, Ints]:
    """Return the different rows in lexicographic order, where each row went, and how often.

    A row is one number to the base of k + 1 (and one more for each set) where that fits 62 bits:
    counting or sorting numbers takes a fraction of the time of sorting rows.

    Args:
        votes: int8[n, m].
        n_classes: k.
        sets: What votes below -1 mean.

    Returns:
        int8[p, m], int64[n] positions, int64[p] counts.

    Raises:
        ValueError: If a vote is no class and no set.
    """
    check(votes, n_classes, sets)
    m = votes.shape[1]
    base = n_classes + 1 + len(sets.sets)
    if base**m > LARGEST_CODE:
        patterns, inverse, counts = np.unique(
            votes, axis=0, return_inverse=True, return_counts=True
        )
        return patterns, inverse.reshape(-1), counts
    used, index = distinct(codes(votes, range(m), base, len(sets.sets)), base**m)
    counts = np.bincount(index, minlength=len(used)).astype(np.int64)
    return decode(used, m, base, len(sets.sets)), index.astype(np.int64), counts


def codes(votes: Votes, members: Sequence[int], base: int, n_sets: int) -> Ints:
    """Return the pattern of some functions as one number to `base`, int64[n]."""
    code = np.zeros(len(votes), np.int64)
    for function in members:
        code *= base
        code += votes[:, function]
        code += 1 + n_sets
    return code


def decode(code: Ints, functions: int, base: int, n_sets: int) -> Votes:
    """Return int8[s, functions] of pattern numbers."""
    table = np.empty((len(code), functions), np.int8)
    for position in range(functions - 1, -1, -1):
        code, digit = np.divmod(code, base)
        table[:, position] = digit - 1 - n_sets
    return table


def distinct(code: Ints, space: int) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return the different codes below `space`, sorted, and int32[n] where each went.

    Counting is several times faster than sorting where the codes are few.
    """
    if space <= max(_DENSE, 4 * len(code)):
        used = np.flatnonzero(np.bincount(code, minlength=space)).astype(np.int64)
        position = np.zeros(space, np.int32)
        position[used] = np.arange(len(used), dtype=np.int32)
        return used, position[code]
    used, inverse = np.unique(code, return_inverse=True)
    return used, inverse.reshape(-1).astype(np.int32)


class VoteCounter:
    """Patterns of votes that come batch by batch, in bounded memory.

    Up to `most` different patterns the counts are exact. Beyond that patterns are drawn so that
    every count stays right on average: those above a threshold are kept as they are, of the
    others each is kept with a probability proportional to its count and then counts as much as
    the threshold (threshold sampling: Duffield, Lund, Thorup 2005, "Learn more, sample less").
    The draw is systematic along the sorted patterns and starts from a fixed seed, so the same
    batches give the same patterns.

    Args:
        n_functions: m.
        n_classes: k.
        sets: What votes below -1 mean.
        most: Patterns kept; the memory is about most x (m + 8) bytes, twice while batches come.
        seed: Of the draw.
    """

    def __init__(
        self,
        n_functions: int,
        n_classes: int,
        sets: ClassSets = NO_SETS,
        most: int = _MOST_PATTERNS,
        seed: int = 0,
    ) -> None:
        self.n_functions, self.n_classes, self.most = n_functions, n_classes, most
        self.sets = sets
        self.rows = 0
        self.sampled = False
        self._generator = np.random.default_rng(seed)
        self._kept: list[Votes] = []
        self._weights: list[Floats] = []
        self._waiting = 0

    def add(self, votes: Votes, sets: ClassSets | None = None) -> None:
        """Count some rows.

        Args:
            votes: int8[n, m].
            sets: What their votes below -1 mean, where that differs from what was known.

        Raises:
            ValueError: If a vote is no class and no set.
        """
        if sets is not None and sets != self.sets:
            check(votes, self.n_classes, sets)
            book = ClassSets.of([*self.sets.sets, *sets.sets])
            self._kept = [renumber(patterns, self.sets, book) for patterns in self._kept]
            votes, self.sets = renumber(votes, sets, book), book
        patterns, _, counts = unique_patterns(votes, self.n_classes, self.sets)
        self.rows += len(votes)
        self._kept.append(patterns)
        self._weights.append(counts.astype(np.float64))
        self._waiting += len(patterns)
        if self._waiting > 2 * self.most:
            self._settle()

    def patterns(self) -> tuple[Votes, Floats]:
        """Return int8[p, m] sorted, p at most `most`, and the float64[p] rows each stands for."""
        self._settle()
        return self._kept[0], self._weights[0]

    def _settle(self) -> None:
        """Join what came since the last time, and draw where it is too much."""
        if not self._kept:
            self._kept = [np.zeros((0, self.n_functions), np.int8)]
            self._weights = [np.zeros(0)]
        if len(self._kept) > 1:
            together, weights = np.concatenate(self._kept), np.concatenate(self._weights)
            self._kept, self._weights = [], []
            patterns, index, _ = unique_patterns(together, self.n_classes, self.sets)
            self._kept = [patterns]
            joined = np.bincount(index, weights=weights, minlength=len(patterns))
            self._weights = [joined.astype(np.float64)]
        if len(self._kept[0]) > self.most:
            self.sampled = True
            chosen, weights = threshold_sample(self._weights[0], self.most, self._generator)
            self._kept, self._weights = [self._kept[0][chosen]], [weights]
        self._waiting = len(self._kept[0])


def threshold_sample(
    weights: Floats, most: int, generator: np.random.Generator
) -> tuple[Ints, Floats]:
    """Return positions of at most `most` items and weights that are right on average.

    Args:
        weights: float64[n], above 0.
        most: Items wanted.
        generator: Gives the one random start.

    Example:
        >>> drawn = threshold_sample(np.array([9.0, 1, 1, 1]), 2, np.random.default_rng(0))
        >>> int(drawn[0][0]), drawn[1].tolist()
        (0, [9.0, 3.0])
    """
    if len(weights) <= most:
        return np.arange(len(weights)), weights
    heavy = np.sort(weights)[::-1]
    rest = heavy.sum() - np.concatenate([[0.0], np.cumsum(heavy)[:-1]])
    # the first threshold at which all that are heavier, and the draws of the rest, fit
    kept = np.arange(most)
    fits = heavy[:most] * (most - kept) <= rest[:most] * (1 + 1e-12)
    first = int(np.argmax(fits)) if fits.any() else most - 1
    threshold = rest[first] / (most - first)
    share = np.minimum(weights / threshold, 1.0)
    ladder = np.floor(np.cumsum(share) + generator.random() * (1 - 1e-9))
    steps = np.diff(ladder, prepend=0.0)
    chosen = np.flatnonzero((steps > 0) | (share >= 1))[:most]
    return chosen, np.maximum(weights[chosen], threshold)
