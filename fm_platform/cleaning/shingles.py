"""Texts as sets of shingles: hashes of their runs of words or characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

TOKEN_BITS = 48  # a hash of a shingle; the 16 bits above it hold the document of a chunk
_CHUNK = 1 << 11  # documents that are cut into shingles together: their bytes fit a cache
_SKETCHED = 1 << 14
_ODD = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93,
     0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3],
    np.uint64,
)  # fmt: skip
MAX_SIZE = len(_ODD)


@dataclass(frozen=True)
class Shingles:
    """The shingles of some documents.

    Attributes:
        offsets: int64[n + 1], where each document begins in `tokens`.
        tokens: uint64[...], 48-bit hashes, each once a document and sorted within it.
    """

    offsets: Rows
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def sizes(self) -> Rows:
        """int64[n], shingles of each document; 0 for one without a word."""
        return np.diff(self.offsets)

    def sketch(self, bits: int) -> Tokens:
        """Return uint64[n, bits / 64]: of each bit, whether an odd number of shingles falls on it.

        Two sets differ in at least as many shingles as their sketches differ in bits, so most
        pairs are seen to be unlike without counting (bitmap filter: Sandes, Teodoro, Melo, 2020).
        """
        found = np.empty((len(self), bits // 64), np.uint64)
        for begin in range(0, len(self), _SKETCHED):
            end = min(begin + _SKETCHED, len(self))
            tokens = self.tokens[self.offsets[begin] : self.offsets[end]]
            whose = np.repeat(np.arange(end - begin), self.sizes[begin:end])
            slots = whose * bits + (tokens % np.uint64(bits)).astype(np.int64)
            odd = np.bincount(slots, minlength=(end - begin) * bits).astype(np.uint8) & 1
            packed = np.packbits(odd.reshape(end - begin, bits), axis=1)
            found[begin:end] = packed.view(np.uint64)
        return found

    def take(self, documents: Rows) -> Shingles:
        """Return the shingles of some documents, in that order."""
        sizes = self.sizes[documents]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Shingles(offsets, self.tokens[runs(self.offsets[documents], sizes)])


def shingles(
    texts: Sequence[str], size: int = 3, unit: Literal["words", "characters"] = "words"
) -> Shingles:
    """Return the shingles of texts; case, width, punctuation and white space do not count.

    A text of fewer units than `size` is one shingle as a whole.

    Args:
        texts: n texts.
        size: Units in a shingle, 1 to 8.
        unit: `words`, or `characters` for short texts and for scripts without spaces.

    Raises:
        ValueError: If `size` is out of range.
    """
    if not 1 <= size <= MAX_SIZE:
        raise ValueError(f"a shingle has 1 to {MAX_SIZE} units, not {size}")
    found, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        units, sizes = _words(chunk) if unit == "words" else _characters(chunk)
        tokens, documents = _windows(units, sizes, size)
        keys = np.sort((documents.astype(np.uint64) << np.uint64(TOKEN_BITS)) | tokens)
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
        found.append(keys & np.uint64((1 << TOKEN_BITS) - 1))
        of = (keys >> np.uint64(TOKEN_BITS)).astype(np.int64)
        counts.append(np.bincount(of, minlength=len(chunk)).astype(np.int64))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return Shingles(offsets, np.concatenate(found))


def _folded(texts: Sequence[str]) -> Any:
    """Return texts in small letters of one width, with spaces for all that is no word."""
    import polars as pl

    series = pl.Series("text", texts, pl.String)
    plain = series.str.len_bytes() == series.str.len_chars()
    if not plain.all():  # plain ASCII is folded byte by byte
        at = (~plain).arg_true()
        wide = series.gather(at).str.normalize("NFKC").str.to_lowercase()
        series = series.scatter(at, wide.str.replace_all(r"\W+", " "))
    return series


def _words(texts: Sequence[str]) -> tuple[Tokens, Rows]:
    """Return the hash of every word, and the words of each text.

    The hash of a word is the polynomial of its bytes: a difference of two running sums.
    """
    data, offsets = _bytes(_folded(texts))
    letters = _FOLD[data]
    inside = letters != 0
    before, after = np.zeros(len(data), bool), np.zeros(len(data), bool)
    before[1:], after[:-1] = inside[:-1], inside[1:]
    begins = offsets[:-1][offsets[:-1] < len(data)]
    before[begins] = False
    after[begins[begins > 0] - 1] = False
    starts, ends = np.flatnonzero(inside & ~before), np.flatnonzero(inside & ~after) + 1
    powers, inverse = _powers(len(data))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(_LETTERS[letters] * powers, out=sums[1:])
    hashed = (sums[ends] - sums[starts]) * inverse[starts]
    hashed ^= hashed >> np.uint64(32)
    sizes = np.diff(np.searchsorted(starts, offsets))
    return hashed * _ODD[-1], sizes


def _bytes(series: Any) -> tuple[npt.NDArray[np.uint8], Rows]:
    """Return the UTF-8 bytes of all texts, and where each begins."""
    import pyarrow as pa

    column = series.to_arrow().cast(pa.large_string())
    _, places, data = column.buffers()
    offsets = np.frombuffer(places, np.int64, len(column) + 1, column.offset * 8)
    raw = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return raw[offsets[0] : offsets[-1]], offsets - offsets[0]


def _fold_table() -> npt.NDArray[np.uint8]:
    """Return byte -> the byte of a word it stands for; 0 for what is between words."""
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        if byte >= 0x80 or chr(byte).isalnum() or chr(byte) == "_":
            table[byte] = ord(chr(byte).lower()) if byte < 0x80 else byte
    return table


def _powers(count: int) -> tuple[Tokens, Tokens]:
    """Return 1, p, p ** 2, ... and their inverses modulo 2 ** 64, `count` of each."""
    known = _known_powers
    if len(known[0]) < count:
        for i, base in enumerate((int(_ODD[1]), pow(int(_ODD[1]), -1, 1 << 64))):
            factors = np.full(max(count, 1), base, np.uint64)
            factors[0] = 1
            known[i] = np.cumprod(factors, dtype=np.uint64)
    return known[0][:count], known[1][:count]


_FOLD = _fold_table()
_LETTERS = np.random.default_rng(20070508).integers(1, 1 << 63, 256, np.uint64)
_LETTERS[0] = 0
_known_powers: list[Tokens] = [np.ones(1, np.uint64), np.ones(1, np.uint64)]


def _characters(texts: Sequence[str]) -> tuple[Tokens, Rows]:
    """Return a hash of every character of words, with one space between words."""
    series = _folded(texts).str.to_lowercase().str.replace_all(r"\W+", " ").str.strip_chars()
    sizes = series.str.len_chars().to_numpy().astype(np.int64)
    whole = "".join(series.to_list()).encode("utf-32-le", "surrogatepass")
    hashed = np.frombuffer(whole, np.uint32).astype(np.uint64) * _ODD[-1]
    hashed ^= hashed >> np.uint64(29)
    return hashed * _ODD[-2], sizes


def _windows(units: Tokens, sizes: Rows, size: int) -> tuple[Tokens, Rows]:
    """Return the hash of every run of `size` units within a document, and whose it is."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    padded = np.concatenate([units, np.zeros(size, np.uint64)])
    mixed = np.zeros(len(units), np.uint64)
    for i in range(size):
        mixed += padded[i : i + len(units)] * _ODD[i]
    whole = np.maximum(sizes - size + 1, 0)
    tokens = mixed[runs(starts, whole)]
    documents = np.repeat(np.arange(len(sizes)), whole)
    short = np.flatnonzero((sizes > 0) & (sizes < size))
    if len(short):
        rest = np.zeros(len(short), np.uint64)
        for i in range(size):
            inside = starts[short] + i < ends[short]
            rest += np.where(inside, padded[starts[short] + i], np.uint64(0)) * _ODD[i]
        tokens, documents = np.concatenate([tokens, rest]), np.concatenate([documents, short])
    tokens ^= tokens >> np.uint64(31)
    return (tokens * _ODD[2]) >> np.uint64(64 - TOKEN_BITS), documents


def runs(starts: Rows, lengths: Rows) -> Rows:
    """Return start, start + 1, ... for each run, below one another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    shift: Any = np.repeat(starts - (ends - lengths), lengths)
    return np.asarray(np.arange(total) + shift, np.int64)
