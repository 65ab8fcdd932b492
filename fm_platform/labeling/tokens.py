"""The words of a batch of texts as numbers, and a list of phrases found among them.

A regular expression costs a tenth of a microsecond for every word that it cuts out, however few of
them matter. Here words are cut by looking up the class of each byte, and compared as whole 64-bit
numbers; only words that are part of a phrase are looked at again. Nothing is approximate: a hash
only chooses what is then compared in full.

A word is a run of letters, digits, `_` and `'`, in lower case (`WORD`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
_PIECE = 1 << 14
_ROWS = 1 << 10
_KNOWN_BITS = 18
_KNOWN_SHIFT = np.uint64(64 - _KNOWN_BITS)


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

    @cached_property
    def hashes(self) -> Words:
        """uint64[t], of the bytes of each word: lists of phrases look for these first."""
        found = np.zeros(len(self.row), np.uint64)
        for some in self.pieces():
            found[some] = _mixed(self.block(0, some), 0)
            longer, number = np.flatnonzero(self.length[some] > _BLOCK) + some.start, 1
            while len(longer):
                found[longer] ^= _mixed(self.block(number, longer), number)
                number += 1
                longer = longer[self.length[longer] > _BLOCK * number]
        return found

    def pieces(self) -> Iterator[slice]:
        """Yield all words, some at a time: what is made of these stays in a cache."""
        for begin in range(0, len(self.row), _PIECE):
            yield slice(begin, min(begin + _PIECE, len(self.row)))

    def block(self, number: int, which: Ints | slice) -> Words:
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
    found, offsets = found[offsets[0] : offsets[-1]], offsets - offsets[0]
    empty = np.zeros(0, np.int64)
    parts = [(empty, empty, empty)]
    for begin in range(0, len(low), _ROWS):
        some = offsets[begin : begin + _ROWS + 1]
        starts, ends, many = _borders(found[some[0] : some[-1]], some - some[0])
        parts.append((starts + some[0], ends + some[0], many))
    starts, ends, many = (np.concatenate(listed) for listed in zip(*parts, strict=True))
    row = np.repeat(np.arange(len(low)), many)
    data = np.concatenate([found, np.zeros(_BLOCK, np.uint8)])
    return Tokens(len(low), row if order is None else order[row], starts, ends - starts, data)


def _borders(data: Bytes, offsets: Ints) -> tuple[Ints, Ints, Ints]:
    """Return where words begin and end, and the words of each text; none goes over its end."""
    inside = _IS_WORD[data]
    before, after = np.zeros_like(inside), np.zeros_like(inside)
    before[1:], after[:-1] = inside[:-1], inside[1:]
    before[offsets[:-1][offsets[:-1] < len(data)]] = False
    after[offsets[1:][offsets[1:] > 0] - 1] = False
    starts, ends = np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1
    return starts, ends, np.diff(np.searchsorted(starts, offsets))


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
        longest = int(tokens.length.max(initial=1))
        blocks = [tokens.block(b, everyone) for b in range(-(-longest // _BLOCK))]
        self._words, first, ids = np.unique(
            np.stack(blocks, axis=1), axis=0, return_index=True, return_inverse=True
        )
        hashes = tokens.hashes[first]
        self._order = np.argsort(hashes, kind="stable")
        self._hashed = hashes[self._order]
        self._lengths = tokens.length[first]
        heads = (self._hashed >> _KNOWN_SHIFT).astype(np.int64)
        held = np.bincount(heads, minlength=1 << _KNOWN_BITS)
        self._known = held > 0
        self._begins = (np.cumsum(held) - held).astype(np.int32)
        self._most = int(held.max(initial=0))
        self._build(ids.reshape(-1), tokens, len(phrases))

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
        targets = np.array([edges[code] for code in codes.tolist()], np.int64)
        begins = len(codes[codes < len(self._words)])  # edges from the root
        self._root = np.full(len(self._words), -1, np.int64)
        self._root[codes[:begins]] = targets[:begins]
        self._codes, self._targets = codes[begins:], targets[begins:]
        self._goes_on = np.zeros(len(edges) + 1, np.bool_)
        self._goes_on[self._codes // max(len(self._words), 1)] = True
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
        place, ids = self._known_words(tokens)
        empty = np.zeros(0, np.int64)
        rows, found = [empty], [empty]
        if not len(place):
            return empty, empty
        row = tokens.row[place]
        # whether the next word is known as well, and of the same text
        follows = np.zeros(len(place), np.bool_)
        follows[:-1] = (place[1:] == place[:-1] + 1) & (row[1:] == row[:-1])
        states, at = self._root[ids], np.arange(len(place))
        states, at = _where(states >= 0, states, at)
        while len(at):
            many = self._first[states + 1] - self._first[states]
            rows.append(np.repeat(row[at], many))
            begins = np.repeat(self._first[states] - np.cumsum(many) + many, many)
            found.append(self._ended[begins + np.arange(int(many.sum()))])
            states, at = _where(self._goes_on[states] & follows[at], states, at + 1)
            if not len(at):
                break
            code = states * len(self._words) + ids[at]
            edge = np.minimum(np.searchsorted(self._codes, code), len(self._codes) - 1)
            states, at = _where(self._codes[edge] == code, self._targets[edge], at)
        return np.concatenate(rows), np.concatenate(found)

    def _known_words(self, tokens: Tokens) -> tuple[Ints, Ints]:
        """Return int64[p] places of known words, in order, and int64[p], which words they are."""
        empty = np.zeros(0, np.int64)
        if not len(self._words):
            return empty, empty
        seen = [
            np.flatnonzero(self._known[tokens.hashes[some] >> _KNOWN_SHIFT]) + some.start
            for some in tokens.pieces()
        ]
        maybe = np.concatenate([empty, *seen])
        hashes = tokens.hashes[maybe]
        begin = self._begins[hashes >> _KNOWN_SHIFT]
        words = np.full(len(maybe), -1, np.int64)
        open_ = np.arange(len(maybe))
        for nth in range(self._most):
            slot = np.minimum(begin[open_] + nth, len(self._hashed) - 1)
            same = self._hashed[slot] == hashes[open_]
            told, at = _where(same, self._order[slot], open_)
            words[at] = np.where(self._are(tokens, maybe[at], told), told, -1)
            open_ = open_[words[open_] < 0]
        return _where(words >= 0, maybe, words)

    def _are(self, tokens: Tokens, place: Ints, words: Ints) -> npt.NDArray[np.bool_]:
        """Return whether words of texts are these known ones, byte by byte."""
        exact: npt.NDArray[np.bool_] = tokens.length[place] == self._lengths[words]
        exact &= tokens.block(0, place) == self._words[words, 0]
        for number in range(1, self._words.shape[1]):
            longer = np.flatnonzero(exact & (self._lengths[words] > _BLOCK * number))
            told = tokens.block(number, place[longer])
            exact[longer] = told == self._words[words[longer], number]
        return exact


def _where(chosen: npt.NDArray[np.bool_], one: Ints, other: Ints) -> tuple[Ints, Ints]:
    return one[chosen], other[chosen]


def _mixed(block: Words, number: int) -> Words:
    mixed: Words = (block ^ (block >> np.uint64(29))) * np.uint64(
        (_SEED + 2 * number * _SEED) & (2**64 - 1)
    )
    return mixed
