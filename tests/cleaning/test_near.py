"""Near duplicates: exactly the pairs that counting every pair finds."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.cleaning.near import Inverted, near_earlier, near_known, near_pairs
from fm_platform.cleaning.shingles import shingles

WORDS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
TEXTS = st.lists(st.lists(WORDS, max_size=14).map(" ".join), max_size=14)
SIMILARITY = st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0])


def sets(texts: list[str], size: int) -> list[set[tuple[str, ...]]]:
    found = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        found.append(set(runs or ([tuple(words)] if words else [])))
    return found


def alike(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 3), SIMILARITY)
def test_the_pairs_are_those_of_counting_every_pair(
    texts: list[str], size: int, similarity: float
) -> None:
    known = sets(texts, size)
    wanted = {
        (i, j): alike(known[i], known[j])
        for i, j in combinations(range(len(texts)), 2)
        if alike(known[i], known[j]) >= similarity - 1e-9
    }

    documents = shingles(texts, size)
    pairs = near_pairs(documents, similarity)
    earlier = near_earlier(documents, similarity)

    found = dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True),
                     pairs.similarity.tolist(), strict=True))  # fmt: skip
    assert found == pytest.approx(wanted)
    assert earlier.right.tolist() == sorted({j for _, j in wanted})
    assert set(zip(earlier.left.tolist(), earlier.right.tolist(), strict=True)) <= wanted.keys()


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, SIMILARITY)
def test_a_day_finds_all_that_it_repeats_of_another(
    before: list[str], today: list[str], similarity: float
) -> None:
    old, new = sets(before, 2), sets(today, 2)
    wanted = {
        j for j, one in enumerate(new) if any(alike(one, o) >= similarity - 1e-9 for o in old)
    }

    index = Inverted.of(shingles(before, 2))
    pairs = near_known(shingles(today, 2), index, similarity)

    assert set(pairs.right.tolist()) == wanted
    assert [alike(old[i], new[j]) for i, j in zip(pairs.left, pairs.right, strict=True)] == (
        pytest.approx(pairs.similarity.tolist())
    )


def test_case_width_punctuation_and_spaces_do_not_count() -> None:
    same = [
        "One, two; THREE four!",
        "one  two\tthree four",
        "\uff2f\uff4e\uff45 two three \u2026FOUR",
    ]
    documents = shingles([*same, "na\u00efve caf\u00e9 in z\u00fcrich", "NA\u0130VE"])

    tokens = [part.tolist() for part in np.split(documents.tokens, documents.offsets[1:-1])]
    assert tokens[0] == tokens[1] == tokens[2]
    assert documents.sizes.tolist() == [2, 2, 2, 2, 1]


def test_short_texts_are_compared_by_characters() -> None:
    documents = shingles(["great phone!", "Great phones", "bad phone", "\u597d\u7684\u624b\u673a"],
                         size=3, unit="characters")  # fmt: skip

    pairs = near_pairs(documents, 0.7)

    assert list(zip(pairs.left, pairs.right, strict=True)) == [(0, 1)]
    assert documents.sizes[3] == 2


def test_a_large_group_of_alike_texts_costs_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    from fm_platform.cleaning import near

    looked_at: list[int] = []
    blocks = near._blocks

    def counted(*arguments):  # type: ignore[no-untyped-def]
        for entries, places in blocks(*arguments):
            looked_at.append(len(entries))
            yield entries, places

    monkeypatch.setattr(near, "_blocks", counted)
    rng = np.random.default_rng(0)
    base = [f"w{i}" for i in range(40)]
    texts = []
    for i in range(1500):
        words = list(base)
        words[int(rng.integers(40))] = f"other{i}"
        texts.append(" ".join(words))

    found = near_earlier(shingles(texts), 0.7)

    assert len(found.right) == 1499
    assert sum(looked_at) < 60 * 1500
