"""Near duplicates by the Jaccard similarity of shingles, found exactly and without all pairs.

Two sets of which `t` of their shingles are the same must share one of the first
`size - ceil(t * size) + 1` shingles of each, in any order that is the same for both (prefix
filtering: Chaudhuri, Ganti, Kaushik, ICDE 2006; Bayardo, Ma, Srikant, WWW 2007). With the rarest
first, few documents share one; of those most are ruled out by a few bits of each, and the others
are counted out. So, unlike with MinHash, nothing is missed by chance and nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fm_platform.cleaning.shingles import TOKEN_BITS, Rows, Shingles, Tokens, runs

_BLOCK = 1 << 18  # candidate pairs looked at together: bounds memory
_SORTED = 1 << 12  # documents whose shingles are sorted together: 12 bits, 4 of rarity, 48


@dataclass(frozen=True)
class Pairs:
    """Pairs of near duplicates.

    Attributes:
        left: int64[k], the earlier document, or that of the index.
        right: int64[k], the later document.
        similarity: float64[k], Jaccard similarity of their shingles, exact.
    """

    left: Rows
    right: Rows
    similarity: npt.NDArray[np.float64]


def near_pairs(documents: Shingles, similarity: float) -> Pairs:
    """Return all pairs of documents that are at least so similar, by right and left.

    Args:
        documents: Their shingles; empty sets are like no other.
        similarity: Least Jaccard similarity, above 0 and at most 1.
    """
    return _within(documents, similarity).verified()


def near_earlier(documents: Shingles, similarity: float) -> Pairs:
    """Return for each document that has an earlier near duplicate one such pair.

    A group of many alike costs as much as its size, not as its square.
    """
    return _within(documents, similarity).first_of_each()


@dataclass(frozen=True)
class Inverted:
    """The shingles of a day, by shingle: what later days are looked up in.

    Attributes:
        tokens: uint64[...], sorted; one for each shingle of each document.
        documents: int32[...], whose it is.
        rows: Documents of the day, those without shingles included.
    """

    tokens: Tokens
    documents: npt.NDArray[np.int32]
    rows: int

    @classmethod
    def of(cls, documents: Shingles) -> Inverted:
        """Return the shingles of documents, sorted by shingle and then by document."""
        order = np.argsort(documents.tokens, kind="stable")
        whose = np.repeat(np.arange(len(documents), dtype=np.int32), documents.sizes)
        return cls(documents.tokens[order], whose[order], len(documents))

    @cached_property
    def forward(self) -> Shingles:
        """The same by document."""
        order = np.argsort(self.documents, kind="stable")
        sizes = np.bincount(self.documents, minlength=self.rows)
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Shingles(offsets, self.tokens[order])


def near_known(documents: Shingles, index: Inverted, similarity: float) -> Pairs:
    """Return for each document that has a near duplicate in the index one such pair.

    Args:
        documents: The new ones (right).
        index: The known ones (left).
        similarity: Least Jaccard similarity, above 0 and at most 1.
    """
    order = np.argsort(documents.tokens)
    needles = documents.tokens[order]
    low, high = np.empty((2, len(needles)), np.int64)
    low[order] = np.searchsorted(index.tokens, needles, "left")
    high[order] = np.searchsorted(index.tokens, needles, "right")
    count = high - low
    places, right = _prefix(
        documents, np.minimum(count, 255).astype(np.uint8), similarity, absent=0
    )
    if not len(places):
        return _ordered([])
    posted = index.documents.astype(np.int64)
    return _Candidates(
        index.forward, documents, similarity, right, low[places], count[places], posted
    ).first_of_each()


# --- candidates -----------------------------------------------------------------------------


def _prefix(
    documents: Shingles, count: npt.NDArray[np.uint8], similarity: float, absent: int
) -> tuple[Rows, Rows]:
    """Return the places in `tokens` of each document's rarest shingles, as many as must be seen.

    They come by document, and whose each is comes beside them.

    Args:
        documents: n documents.
        count: uint8[...], in how many documents each shingle occurs, or more; at most 255.
        similarity: Least Jaccard similarity.
        absent: Shingles of this count occur nowhere else: they need not be looked up.
    """
    sizes = documents.sizes
    needed = sizes - np.ceil(similarity * sizes - 1e-9).astype(np.int64) + 1
    found, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for begin in range(0, len(documents), _SORTED):
        end = min(begin + _SORTED, len(documents))
        low, high = documents.offsets[begin], documents.offsets[end]
        nth = np.repeat(np.arange(end - begin, dtype=np.uint16), sizes[begin:end])
        here = count[low:high]
        wanted = needed[begin:end] - np.bincount(nth[here <= absent], minlength=end - begin)
        places = np.flatnonzero((here > absent) & (wanted[nth] > 0))
        whose = nth[places]
        # by document, then rarest first (by powers of two), then by hash, in which order they
        # stand: one order for all
        keys = (whose.astype(np.uint64) << np.uint64(52)) | _RARITY[here[places]]
        keys |= places.view(np.uint64)
        keys.sort()
        lengths = np.bincount(whose, minlength=end - begin)
        began = np.cumsum(lengths) - lengths
        rank = np.arange(len(places)) - began[whose]  # sorting leaves `whose` as it is
        seen = rank < wanted[whose]
        found.append((keys[seen] & _PLACE).view(np.int64) + low)
        owners.append(whose[seen].astype(np.int64) + begin)
    return np.concatenate(found), np.concatenate(owners)


_PLACE = np.uint64((1 << TOKEN_BITS) - 1)
_RARITY = np.minimum(np.frexp(np.arange(256))[1], 15).astype(np.uint64) << np.uint64(TOKEN_BITS)


@dataclass(frozen=True)
class _Candidates:
    """Right documents, each with left ones that share a rare shingle with it.

    Entry k says: `right[k]` may be like `posted[start[k] : start[k] + count[k]]`.
    """

    lefts: Shingles
    rights: Shingles
    similarity: float
    right: Rows
    start: Rows
    count: Rows
    posted: Rows

    @cached_property
    def sketches(self) -> tuple[Tokens, Tokens]:
        """uint64[words, n] of both sides."""
        sizes = self.lefts.sizes
        wide = 2 * int(sizes.mean()) if len(sizes) else 0
        bits = 1 << int(np.clip(wide.bit_length(), 6, 11))
        left = np.ascontiguousarray(self.lefts.sketch(bits).T)
        if self.rights is self.lefts:
            return left, left
        return left, np.ascontiguousarray(self.rights.sketch(bits).T)

    @cached_property
    def folds(self) -> tuple[Tokens, Tokens]:
        """uint64[n] of both sides: sketches of 64 bits, which rule most pairs out at once."""
        left, right = self.sketches
        folded = np.bitwise_xor.reduce(left, axis=0)
        return folded, folded if right is left else np.bitwise_xor.reduce(right, axis=0)

    def able(self, a: Rows, b: Rows) -> tuple[Rows, Rows]:
        """Return the pairs that may be as similar as wanted, as far as sizes and bits tell."""
        share = (1 - self.similarity) / (1 + self.similarity)
        # so many shingles may stand in one of the two only
        most = (self.lefts.sizes[a] + self.rights.sizes[b]) * share + 1e-9
        left_over = np.flatnonzero(np.bitwise_count(self.folds[0][a] ^ self.folds[1][b]) <= most)
        a, b, most = a[left_over], b[left_over], most[left_over]
        differing = np.zeros(len(a), np.int32)
        for nth, (left, right) in enumerate(zip(*self.sketches, strict=True)):
            differing += np.bitwise_count(left[a] ^ right[b])
            if nth % 2:
                left_over = np.flatnonzero(differing <= most)
                a, b = a[left_over], b[left_over]
                most, differing = most[left_over], differing[left_over]
        left_over = np.flatnonzero(differing <= most)
        return a[left_over], b[left_over]

    def verified(self, count: Rows | None = None, low: int = 0, high: int | None = None) -> Pairs:
        """Return the pairs that are as similar as wanted, of ranks low to high of the lists."""
        lefts, rights = self.lefts, self.rights
        able = [np.zeros(0, np.int64)]
        listed = self.count if count is None else count
        for entries, places in _blocks(self.start, listed, low, high):
            a, b = self.able(self.posted[places], self.right[entries])
            able.append(np.unique(b * len(lefts) + a))
        b, a = np.divmod(np.unique(np.concatenate(able)), max(len(lefts), 1))
        shared = _shared(lefts, rights, a, b)
        alike = shared / (lefts.sizes[a] + rights.sizes[b] - shared)
        enough = alike >= self.similarity - 1e-9
        return Pairs(a[enough], b[enough], alike[enough])

    def first_of_each(self) -> Pairs:
        """Return one pair for each right document that has any: the first places of lists first."""
        waiting = np.ones(len(self.rights), bool)
        found: list[Pairs] = []
        low, high = 0, 1
        while low < int(self.count.max(initial=0)):
            pairs = self.verified(np.where(waiting[self.right], self.count, 0), low, high)
            _, at = np.unique(pairs.right, return_index=True)  # the earliest left of each
            waiting[pairs.right[at]] = False
            found.append(Pairs(pairs.left[at], pairs.right[at], pairs.similarity[at]))
            low, high = high, high * 2
        return _ordered(found)


def _within(documents: Shingles, similarity: float) -> _Candidates:
    """Return each document with the earlier ones that share a rare shingle with it."""
    # about a slot for each shingle: more would be memory to fill, fewer would rule out less
    bits = int(np.clip(len(documents.tokens).bit_length() - 1, 8, 25))
    slots = (documents.tokens & np.uint64((1 << bits) - 1)).view(np.int64)
    counted = np.bincount(slots, minlength=1 << bits)
    filled = np.minimum(counted, 255, out=counted).astype(np.uint8)
    # the true count, or more
    places, whose = _prefix(documents, filled[slots], similarity, absent=1)
    order, began = _grouped(documents.tokens[places])
    start = np.repeat(began, np.diff(np.append(began, len(order))))
    posted = whose[order]
    rank = np.arange(len(order)) - start
    return _Candidates(documents, documents, similarity, posted, start, rank, posted)


def _grouped(tokens: Tokens) -> tuple[Rows, Rows]:
    """Return an order in which equal tokens stand together, as they came, and where runs begin.

    One sort of tokens and places in one number; where both do not fit, the last bits of a token
    are left out: then a few runs hold two tokens, which counting tells apart.
    """
    width = max(len(tokens) - 1, 1).bit_length()
    keys = tokens << np.uint64(64 - TOKEN_BITS) >> np.uint64(width) << np.uint64(width)
    keys |= np.arange(len(tokens), dtype=np.uint64)
    keys.sort()
    heads = keys >> np.uint64(width)
    began = np.flatnonzero(np.concatenate([[True], heads[1:] != heads[:-1]])[: len(heads)])
    return (keys & np.uint64((1 << width) - 1)).view(np.int64), began


def _blocks(start: Rows, count: Rows, low: int, high: int | None) -> Iterator[tuple[Rows, Rows]]:
    """Yield (entry, place in its posting list) of ranks low to high, a block at a time."""
    ends = count if high is None else np.minimum(count, high)
    lengths = np.maximum(ends - low, 0)
    entries = np.flatnonzero(lengths)
    total = np.cumsum(lengths[entries])
    begin = 0
    while begin < len(entries):
        done = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, done + _BLOCK, "right")), begin + 1)
        some = entries[begin:end]
        yield np.repeat(some, lengths[some]), runs(start[some] + low, lengths[some])
        begin = end


def _shared(lefts: Shingles, rights: Shingles, a: Rows, b: Rows) -> Rows:
    """Return how many shingles documents a[k] and b[k] share: a binary search for each."""
    shared = np.zeros(len(a), np.int64)
    step = max(_BLOCK // max(int(lefts.sizes.max(initial=1)), 1), 1)
    for begin in range(0, len(a), step):
        left, right = a[begin : begin + step], b[begin : begin + step]
        sizes = lefts.sizes[left]
        needles = lefts.tokens[runs(lefts.offsets[left], sizes)]
        low = np.repeat(rights.offsets[right], sizes)
        end = np.repeat(rights.offsets[right + 1], sizes)
        high = end.copy()
        for _ in range(int(rights.sizes[right].max(initial=1)).bit_length()):
            middle = (low + high) >> 1
            smaller = rights.tokens[np.minimum(middle, len(rights.tokens) - 1)] < needles
            go = low < high
            low = np.where(go & smaller, middle + 1, low)
            high = np.where(go & ~smaller, middle, high)
        hit = (low < end) & (rights.tokens[np.minimum(low, len(rights.tokens) - 1)] == needles)
        of = np.repeat(np.arange(len(left)), sizes)
        shared[begin : begin + step] = np.bincount(of[hit], minlength=len(left))
    return shared


def _ordered(found: Sequence[Pairs]) -> Pairs:
    left = np.concatenate([np.zeros(0, np.int64), *(pairs.left for pairs in found)])
    right = np.concatenate([np.zeros(0, np.int64), *(pairs.right for pairs in found)])
    alike = np.concatenate([np.zeros(0, np.float64), *(pairs.similarity for pairs in found)])
    order = np.lexsort((left, right))
    return Pairs(left[order], right[order], alike[order])
