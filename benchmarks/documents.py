"""Documents with planted duplicates and personal data, made of the sentences of the corpora."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fm_platform.sources.corpora import FILES, _corpus, fetch

PII_KINDS = ("email", "phone", "card", "iban", "ip")


@dataclass(frozen=True)
class Planted:
    """100,000 documents, say, and what was planted in them.

    Attributes:
        texts: The documents.
        exact: Document -> the earlier one that it repeats but for case and spaces.
        near: Document -> the earlier one of which one to three words were changed.
        personal: (document, kind, start, end) of each planted value.
    """

    texts: list[str]
    exact: dict[int, int]
    near: dict[int, int]
    personal: list[tuple[int, str, int, int]]


def sentences(cache: Path, corpora: tuple[str, ...] = tuple(FILES)) -> list[tuple[str, str, str]]:
    """Return (text, gold class, corpus) of the shipped sentences."""
    archive = str(fetch(cache))
    return [(r[1], r[2], name) for name in corpora for r in _corpus(archive, name)]


def plant(cache: Path, count: int, seed: int) -> Planted:
    """Return `count` documents of about 70 words; a tenth near, a twentieth exact duplicates."""
    rng = np.random.default_rng(seed)
    pool = [text for text, _, _ in sentences(cache)]
    words = sorted({word for text in pool for word in text.split()})
    originals = count - count // 10 - count // 20
    texts = [
        " ".join(pool[int(i)] for i in rng.integers(len(pool), size=4)) for _ in range(originals)
    ]
    exact, near = {}, {}
    for _ in range(count // 20):
        of = int(rng.integers(originals))
        exact[len(texts)] = of
        texts.append("  ".join(texts[of].upper().split(" ")))
    long = [i for i in range(originals) if len(texts[i].split()) >= 60]
    for _ in range(count // 10):
        of = long[int(rng.integers(len(long)))]
        near[len(texts)] = of
        texts.append(_edited(texts[of].split(), words, rng))
    order = rng.permutation(len(texts))  # a copy may stand before what it was copied from
    place = np.argsort(order)
    moved = [texts[i] for i in order]
    alone = set(range(count)) - {int(place[i]) for pair in (exact | near).items() for i in pair}
    personal = _with_personal_data(moved, sorted(alone), rng, seed)
    return Planted(
        moved,
        {int(place[i]): int(place[j]) for i, j in exact.items()},
        {int(place[i]): int(place[j]) for i, j in near.items()},
        personal,
    )


def _edited(words: list[str], others: list[str], rng: Any) -> str:
    for _ in range(int(rng.integers(1, 4))):
        at, other = int(rng.integers(len(words))), others[int(rng.integers(len(others)))]
        what = int(rng.integers(3))
        words[at : at + (what != 1)] = [] if what == 2 else [other]
    return " ".join(words)


def _with_personal_data(
    texts: list[str], alone: list[int], rng: Any, seed: int
) -> list[tuple[int, str, int, int]]:
    """Put a value into a twentieth of the documents; another library makes the values."""
    from faker import Faker

    makers = []
    for locale in ("en_US", "en_GB", "de_DE", "fr_FR"):
        maker = Faker(locale)
        maker.seed_instance(seed)
        makers.append(maker)
    planted = []
    for nth, i in enumerate(rng.choice(alone, len(texts) // 20, replace=False).tolist()):
        maker, kind = makers[nth % 4], PII_KINDS[nth // 4 % 5]
        value = {
            "email": maker.email, "phone": maker.phone_number, "card": maker.credit_card_number,
            "iban": maker.iban, "ip": maker.ipv4 if nth % 3 else maker.ipv6,
        }[kind]()  # fmt: skip
        words = texts[i].split(" ")
        at = int(rng.integers(len(words)))
        start = len(" ".join([*words[:at], ""]))
        texts[i] = " ".join([*words[:at], value, *words[at:]])
        planted.append((i, kind, start, start + len(value)))
    return planted


def word_runs(text: str, size: int = 3) -> set[str]:
    """Return the shingles of a text by the plain definition."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())
    runs = {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
    return runs or ({" ".join(words)} if words else set())


def true_pairs(runs: list[set[str]], similarity: float) -> set[tuple[int, int]]:
    """Return all pairs that are so similar, by counting every pair that shares a run."""
    import scipy.sparse as sp

    ids: dict[str, int] = {}
    columns = [ids.setdefault(run, len(ids)) for told in runs for run in sorted(told)]
    sizes = np.array([len(told) for told in runs])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    shape = (len(runs), len(ids))
    matrix = sp.csr_matrix((np.ones(len(columns), np.int32), columns, offsets), shape=shape)
    other = matrix.T.tocsr()
    found: set[tuple[int, int]] = set()
    for begin in range(0, len(runs), 4096):
        shared = (matrix[begin : begin + 4096] @ other).tocoo()
        left, right = shared.row + begin, shared.col
        alike = shared.data / (sizes[left] + sizes[right] - shared.data)
        hit = (left < right) & (alike >= similarity - 1e-9)
        found |= set(zip(left[hit].tolist(), right[hit].tolist(), strict=True))
    return found
