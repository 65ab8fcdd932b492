"""The words of a batch of texts as numbers, and a list of phrases found among them.

A regular expression costs a tenth of a microsecond for every word that it cuts out, however few of
them matter. Here words are cut by looking up the class of each byte, and compared as whole 64-bit
numbers; only words that are part of a phrase are looked at again. Nothing is approximate: a hash
only chooses what is then compared in full.

A word is a run of letters, digits, `_` and `'`, in lower case (`WORD`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

WORD = r"[\p{L}\p{N}_']+"

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

_BLOCK = 8
_IS_WORD = np.array(
    [chr(byte).isalnum() or chr(byte) in "_'" or byte >= 128 for byte in range(256)], np.bool_
)
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(_BLOCK + 1)], np.uint64)
_SEED = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Tokens:
    """The words of some texts, text by text in their order.

    Attributes:
        rows: How many texts there are.
        row: int64[t], the text of each word.
        start / length: int64[t], its bytes in `data`.
        data: uint8, UTF-8 with eight bytes of zero at its end.
    """

    rows: int
    row: Ints
    start: Ints
    length: Ints
    data: Bytes

    def counts(self) -> Ints:
        """Return int64[rows], the words of each text."""
        return np.bincount(self.row, minlength=self.rows)

    def block(self, number: int, which: Ints) -> Words:
        """Return uint64: eight bytes of each word from byte 8 * number on, zero past its end."""
        at = np.ndarray((len(self.data) - _BLOCK + 1,), "<u8", self.data, strides=(1,))
        start = self.start[which] + _BLOCK * number
        inside = np.clip(self.length[which] - _BLOCK * number, 0, _BLOCK)
        found: Words = at[np.minimum(start, len(at) - 1)] & _MASKS[inside]
        return found


def tokens_of(texts: pl.Series) -> Tokens:
    """Return the words of texts; a missing text has none."""
    import polars as pl

    low = texts.fill_null("").str.to_lowercase()
    wide = low.str.len_bytes() != low.str.len_chars()
    order: Ints | None = None
    if wide.any():
        # what is a letter beyond ASCII is known to the regular expression: words and spaces remain
        words = low.filter(wide).str.extract_all(WORD).list.join(" ")
        order = np.concatenate([(~wide).arg_true().to_numpy(), wide.arg_true().to_numpy()])
        order = order.astype(np.int64)
        low = pl.concat([low.filter(~wide), words])
    array = low.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(low) + 1]
    found = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.zeros(0, np.uint8)
    found = found[offsets[0] : offsets[-1]]
    starts, ends = _borders(found, offsets - offsets[0])
    row = np.repeat(np.arange(len(low)), np.diff(np.searchsorted(starts, offsets - offsets[0])))
    data = np.concatenate([found, np.zeros(_BLOCK, np.uint8)])
    return Tokens(len(low), row if order is None else order[row], starts, ends - starts, data)


def _borders(data: Bytes, offsets: Ints) -> tuple[Ints, Ints]:
    """Return where words begin and end; no word goes over the end of a text."""
    inside = _IS_WORD[data]
    before, after = np.zeros_like(inside), np.zeros_like(inside)
    before[1:], after[:-1] = inside[:-1], inside[1:]
    before[offsets[:-1][offsets[:-1] < len(data)]] = False
    after[offsets[1:][offsets[1:] > 0] - 1] = False
    return np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1


class Phrases:
    """A list of phrases of one or more words, each found wherever its words follow one another.

    Example:
        >>> import polars as pl
        >>> phrases = Phrases(["york", "new york", "!"])
        >>> [found.tolist() for found in phrases.find(tokens_of(pl.Series(["In New York!"])))]
        [[0, 0], [0, 1]]
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        import polars as pl

        tokens = tokens_of(pl.Series(list(phrases), dtype=pl.String))
        everyone = np.arange(len(tokens.row))
        self._longest = int(tokens.length.max(initial=1))
        blocks = [tokens.block(b, everyone) for b in range(-(-self._longest // _BLOCK))]
        self._words, ids = np.unique(np.stack(blocks, axis=1), axis=0, return_inverse=True)
        self._seed = _SEED
        while len(np.unique(self._hashes())) < len(self._words):
            self._seed += 2
        hashes = self._hashes()
        self._order = np.argsort(hashes)
        self._hashed = hashes[self._order]
        self._known = np.zeros(1 << 16, np.bool_)
        self._known[hashes >> np.uint64(48)] = True
        self._build(ids.reshape(-1), tokens, len(phrases))

    def _hashes(self) -> Words:
        found = np.zeros(len(self._words), np.uint64)
        for number in range(self._words.shape[1]):
            found ^= self._mixed(self._words[:, number], number)
        return found

    def _mixed(self, block: Words, number: int) -> Words:
        mixed: Words = (block ^ (block >> np.uint64(29))) * np.uint64(
            (self._seed + 2 * number * _SEED) & (2**64 - 1)
        )
        return mixed

    def _build(self, ids: Ints, tokens: Tokens, phrases: int) -> None:
        """Make a tree of word ids: state 0 is the root, an edge is state * words + id."""
        self._ends: dict[int, list[int]] = {}
        edges: dict[int, int] = {}
        borders = np.searchsorted(tokens.row, np.arange(phrases + 1)) if (
            np.all(np.diff(tokens.row) >= 0)
        ) else None  # fmt: skip
        for phrase in range(phrases):
            told = (
                ids[borders[phrase] : borders[phrase + 1]]
                if borders is not None
                else ids[tokens.row == phrase]
            )
            state = 0
            for word in told.tolist():
                state = edges.setdefault(state * len(self._words) + word, len(edges) + 1)
            if len(told):  # a phrase without words is nowhere
                self._ends.setdefault(state, []).append(phrase)
        codes = np.array(sorted(edges), np.int64)
        self._codes = codes
        self._targets = np.array([edges[code] for code in codes.tolist()], np.int64)
        counts = np.zeros(len(edges) + 1, np.int64)
        for state, ended in self._ends.items():
            counts[state] = len(ended)
        self._first = np.concatenate([[0], np.cumsum(counts)])
        self._ended = np.array(
            [p for state in range(len(edges) + 1) for p in self._ends.get(state, ())], np.int64
        )

    def find(self, tokens: Tokens) -> tuple[Ints, Ints]:
        """Return int64[h] texts and int64[h] phrases: every place where a phrase is.

        The places of one-word phrases are in the order of the text.
        """
        ids = self._ids(tokens)
        at = np.flatnonzero(ids >= 0)
        states = np.zeros(len(at), np.int64)
        rows: list[Ints] = []
        found: list[Ints] = []
        place = at
        while len(place):
            if not len(self._codes):
                break
            code = states * len(self._words) + ids[place]
            edge = np.minimum(np.searchsorted(self._codes, code), len(self._codes) - 1)
            fits = self._codes[edge] == code
            place, states = place[fits], self._targets[edge[fits]]
            many = self._first[states + 1] - self._first[states]
            rows.append(np.repeat(tokens.row[place], many))
            begins = np.repeat(self._first[states] - np.cumsum(many) + many, many)
            found.append(self._ended[begins + np.arange(int(many.sum()))])
            on = (place + 1 < len(ids)) & (many >= 0)
            place, states = place[on] + 1, states[on]
            on = (tokens.row[place] == tokens.row[place - 1]) & (ids[place] >= 0)
            place, states = place[on], states[on]
        empty = np.zeros(0, np.int64)
        return np.concatenate([empty, *rows]), np.concatenate([empty, *found])

    def _ids(self, tokens: Tokens) -> Ints:
        """Return int64[t]: which known word each word is, -1 if none."""
        ids = np.full(len(tokens.row), -1, np.int64)
        if not len(self._words):
            return ids
        which = np.flatnonzero(tokens.length <= self._longest)
        first = tokens.block(0, which)
        hashes = self._mixed(first, 0)
        for number in range(1, self._words.shape[1]):
            # every word has this block, mostly a zero, which adds nothing
            longer = np.flatnonzero(tokens.length[which] > _BLOCK * number)
            hashes[longer] ^= self._mixed(tokens.block(number, which[longer]), number)
        maybe = np.flatnonzero(self._known[hashes >> np.uint64(48)])
        place = np.minimum(np.searchsorted(self._hashed, hashes[maybe]), len(self._hashed) - 1)
        same = self._hashed[place] == hashes[maybe]
        which, words = which[maybe[same]], self._order[place[same]]
        exact = np.ones(len(which), np.bool_)
        for number in range(self._words.shape[1]):
            exact &= tokens.block(number, which) == self._words[words, number]
        ids[which[exact]] = words[exact]
        return ids
