"""A small project whose days can be shifted: two sources, two columns, three functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.hashing import sha256_hex
from fm_platform.monitoring import (
    Evidence,
    Profile,
    Reference,
    Watch,
    measure_day,
    reference_of,
    with_answers,
    with_embeddings,
)

CLASSES = ("negative", "positive")
FUNCTIONS = ("good_word", "bad_word", "high_rating")
READS = {"high_rating": "rating"}
WATCH = Watch(("price", "rating"), CLASSES, FUNCTIONS, sample_rows=150)
WORDS = {
    "books": ("story", "chapter", "author", "novel"),
    "films": ("scene", "actor", "camera", "plot"),
    "phones": ("battery", "screen", "charger", "signal"),
}
COMMON = ("this", "thing", "about", "really", "quite", "there", "again")


def day_name(i: int) -> str:
    return (date(2026, 1, 5) + timedelta(days=i)).isoformat()


def rows_of(
    i: int, sizes: dict[str, int] | None = None, seed: int = 0, positive: float = 0.5
) -> pa.Table:
    """Rows of the i-th day. A text has three words of its source, and says its class mostly."""
    generator = np.random.default_rng([seed, i])
    held: dict[str, list[object]] = {
        name: [] for name in ("row_id", "source", "text", "text_key", "gold", "price", "rating")
    }
    for source, count in (sizes or {"books": 150, "films": 150}).items():
        for row in range(count):
            gold = bool(generator.random() < positive)
            said = gold if generator.random() < 0.9 else not gold
            words = [*generator.choice(WORDS[source], 2), *generator.choice(COMMON, 3)]
            words += ["wonderful" if said else "terrible"] if generator.random() < 0.8 else []
            text = " ".join([*words, str(row)])
            held["row_id"].append(sha256_hex(f"{seed}/{i}/{source}/{row}".encode())[:32])
            held["source"].append(source)
            held["text"].append(text)
            held["text_key"].append(sha256_hex(text.encode())[:32])
            held["gold"].append(CLASSES[gold])
            held["price"].append(float(generator.lognormal(2.0, 0.5)))
            told = gold if generator.random() < 0.8 else not gold
            held["rating"].append("high" if told else "low")
    return labeled(pa.table(held))


def labeled(rows: pa.Table) -> pa.Table:
    """Give rows the votes of the functions and the label of their majority."""
    texts = [str(text) for text in rows["text"].to_pylist()]
    ratings = rows["rating"].to_pylist()
    votes = np.array(
        [
            [1 if "wonderful" in t else -1, 0 if "terrible" in t else -1, 1 if r == "high" else -1]
            for t, r in zip(texts, ratings, strict=True)
        ],
        np.int8,
    ).reshape(len(texts), 3)
    return with_votes(rows, votes)


def with_votes(rows: pa.Table, votes: npt.NDArray[np.int8]) -> pa.Table:
    positive, negative = (votes == 1).sum(axis=1), (votes == 0).sum(axis=1)
    label = np.where(positive >= negative, "positive", "negative").astype(object)
    label[(votes < 0).all(axis=1)] = None
    rows = rows.select([n for n in rows.column_names if n not in ("votes", "label", "confidence")])
    return (
        rows.append_column("votes", pa.array(list(votes), pa.list_(pa.int8())))
        .append_column("label", pa.array(label.tolist(), pa.string()))
        .append_column("confidence", pa.array(np.full(len(votes), 0.8), pa.float32()))
    )


def model(texts: list[str]) -> npt.NDArray[np.float64]:
    """The live model: it reads two words, and guesses where neither stands."""
    told = [0.9 if "wonderful" in t else 0.1 if "terrible" in t else 0.55 for t in texts]
    return np.array([[1 - p, p] for p in told]).reshape(len(texts), 2)


def profile_of(i: int, rows: pa.Table) -> Profile:
    profile = measure_day("p", day_name(i), rows, WATCH)
    sample = profile.sample
    if sample is None or not sample.num_rows:
        return profile
    texts = [str(text) for text in sample["text"].to_pylist()]
    every = sorted({word for words in WORDS.values() for word in words} | {"wonderful", "terrible"})
    vectors = np.array([[float(w in t) for w in every] for t in texts], np.float32)
    told = model(texts)
    profile = with_embeddings(profile, vectors)
    assert profile.sample is not None
    answered = profile.sample.append_column(
        "champion", pa.array(list(told), pa.list_(pa.float32()))
    )
    return with_answers(replace(profile, sample=answered))


@cache
def reference() -> Reference:
    return reference_of("m" * 64, "champion m", [profile_of(i, rows_of(i)) for i in range(8)])


def evidence_of(
    profile: Profile, rows: pa.Table, weighed: dict[str, tuple[str, str]] | None = None
) -> Evidence:
    return Evidence(profile, reference(), rows, WATCH, dict(READS), weighed or {})
