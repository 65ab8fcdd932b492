"""Words as numbers find what a regular expression finds."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.labeling.tokens import WORD, Phrases, tokens_of

WORDS = st.sampled_from(["a", "ab", "new", "york", "it's", "größe", "averyveryverylongword", "İx"])
TEXTS = st.lists(
    st.none() | st.text(max_size=12) | st.lists(WORDS, max_size=6).map(" ".join), max_size=8
)


def words_of(texts: list[str | None]) -> list[list[str]]:
    return pl.Series(texts, dtype=pl.String).fill_null("").str.to_lowercase().str.extract_all(
        WORD
    ).to_list()  # fmt: skip


@given(TEXTS)
def test_words_are_those_of_the_regular_expression(texts: list[str | None]) -> None:
    tokens = tokens_of(pl.Series(texts, dtype=pl.String))

    found: list[list[str]] = [[] for _ in texts]
    for row, start, length in zip(tokens.row, tokens.start, tokens.length, strict=True):
        found[row].append(bytes(tokens.data[start : start + length]).decode())
    assert found == words_of(texts)
    assert tokens.counts().tolist() == [len(words) for words in found]


@given(TEXTS, st.lists(st.lists(WORDS, max_size=3).map(" ".join), max_size=5))
def test_a_phrase_is_where_its_words_follow_one_another(
    texts: list[str | None], phrases: list[str]
) -> None:
    rows, found = Phrases(phrases).find(tokens_of(pl.Series(texts, dtype=pl.String)))

    told = sorted(zip(rows.tolist(), found.tolist(), strict=True))
    cut = words_of(list(phrases))
    expected = sorted(
        (row, number)
        for row, words in enumerate(words_of(texts))
        for number, phrase in enumerate(cut)
        for at in range(len(words))
        if phrase and words[at : at + len(phrase)] == phrase
    )
    assert told == expected


def test_a_word_that_only_begins_alike_is_another() -> None:
    rows, _ = Phrases(["averyveryverylongword"]).find(
        tokens_of(pl.Series(["averyveryverylongworm", "averyvery", "averyveryverylongword"]))
    )

    assert rows.tolist() == [2]


def test_of_very_many_words_each_is_found_and_no_other() -> None:
    listed = [f"word{n}" for n in range(20_000)]  # many begin with the same bits of their hash
    texts = pl.Series([" ".join(listed[::2]), " ".join(f"{word}x" for word in listed[:100])])

    rows, found = Phrases(listed).find(tokens_of(texts))

    assert set(rows.tolist()) == {0}
    assert found.tolist() == list(range(0, 20_000, 2))


def test_a_batch_of_many_texts_is_cut_as_a_few_are() -> None:
    texts = ["it's new", "", None, "größe york", "ab"] * 700
    tokens = tokens_of(pl.Series(texts, dtype=pl.String))

    cut = [len(words) for words in words_of(texts)]
    rows, _ = Phrases(["york"]).find(tokens)

    assert tokens.counts().tolist() == cut
    assert sorted(rows.tolist()) == list(range(3, 3500, 5))
