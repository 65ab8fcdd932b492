"""The ten functions of `benchmarks.applying` as people write them in Python, and who runs them.

    python -m benchmarks.applying_plain loop|snorkel ROWS.parquet VOTES.npy ROWS all|compiled

Needs nothing of the platform, so that a peer may live in an environment of its own. Prints JSON:
rows, seconds and CPU seconds of the votes alone, and the peak memory of the process.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

CLASSES = ("negative", "neutral", "positive")
NEGATIVE, NEUTRAL, POSITIVE = range(3)
PRAISE = (
    "amazing", "awesome", "beautiful", "best", "brilliant", "charming", "delightful", "enjoy",
    "enjoyed", "entertaining", "excellent", "fun", "funny", "good", "great", "happy", "love",
    "loved", "perfect", "recommend", "superb", "thank you", "well made", "wonderful",
)  # fmt: skip
BLAME = (
    "annoying", "at best", "awful", "bad", "bland", "boring", "broken", "disappointed",
    "disappointing", "dull", "fails", "lack", "lacks", "mediocre", "never", "not worth", "poor",
    "problem", "tedious", "terrible", "unfortunately", "useless", "waste", "worse", "worst",
)  # fmt: skip
SMILES = (":)", ":-)", ":D", ";)", "<3", "=)", "haha", "lol")
TURN = (
    r"\b(but|however|although|though|yet)\b.*"
    r"\b(not|never|too|lack\w*|fail\w*|problem|bad|poor|dull|boring|slow|only)\b"
)
LOUD = r"!{2,}|\b[A-Z]{4,}\b"
UPPER, LOWER = 1.0, -1.0
SHORT_WORDS, LOW_STARS, CAPITALS = 6, 2, 2
_WORD = re.compile(r"[\w']+")

Row = Any
Plain = Callable[[Row], int]


def plain_functions(lexicon: dict[str, float], things: dict[str, int]) -> dict[str, Plain]:
    """Return the ten functions: a row with `text` and `stars` in, a class index or -1 out."""
    praise, blame = (
        re.compile("|".join(rf"\b{re.escape(word)}\b" for word in words), re.IGNORECASE)
        for words in (PRAISE, BLAME)
    )
    smiles = tuple(smile.lower() for smile in SMILES)
    turn, loud = re.compile(TURN, re.IGNORECASE), re.compile(LOUD)
    longest = max(len(key.split()) for key in things)

    def smiling(row: Row) -> int:
        text = row.text.lower()
        return POSITIVE if any(smile in text for smile in smiles) else -1

    def opinion(row: Row) -> int:
        found = [lexicon[w] for w in _WORD.findall(row.text.lower()) if w in lexicon]
        total = sum(found)
        if found and total > UPPER:
            return POSITIVE
        return NEGATIVE if found and total < LOWER else -1

    def known(row: Row) -> int:
        words = _WORD.findall(row.text.lower())
        found = set()
        for i in range(len(words)):
            for n in range(1, longest + 1):
                phrase = " ".join(words[i : i + n])
                if phrase in things:
                    found.add(phrase)
        if not found:
            return -1
        counts = Counter(things[phrase] for phrase in found).most_common()
        return counts[0][0] if len(counts) == 1 or counts[0][1] > counts[1][1] else -1

    def shouting(row: Row) -> int:
        return NEGATIVE if sum(map(str.isupper, row.text.split())) > CAPITALS else -1

    return {
        "praise": lambda row: POSITIVE if praise.search(row.text) else -1,
        "blame": lambda row: NEGATIVE if blame.search(row.text) else -1,
        "smiling": smiling,
        "turned_down": lambda row: NEGATIVE if turn.search(row.text) else -1,
        "loud": lambda row: NEGATIVE if loud.search(row.text) else -1,
        "opinion": opinion,
        "few_words": lambda row: NEUTRAL if len(_WORD.findall(row.text)) < SHORT_WORDS else -1,
        "low_stars": lambda row: NEGATIVE if row.stars <= LOW_STARS else -1,
        "known": known,
        "shouting": shouting,
    }


class _Row:
    __slots__ = ("stars", "text")

    def __init__(self, text: str, stars: int) -> None:
        self.text, self.stars = text, stars


def loop(path: Path, functions: dict[str, Plain], limit: int) -> np.ndarray[Any, Any]:
    """Return the votes int8[n, 10] of a plain loop over rows and functions."""
    listed = list(functions.values())
    parts, rows = [], 0
    for batch in pq.ParquetFile(path).iter_batches(16_384, columns=["text", "stars"]):
        pairs = zip(batch["text"].to_pylist(), batch["stars"].to_pylist(), strict=True)
        told = [
            [function(row) for function in listed]
            for row in (_Row(text, stars) for text, stars in pairs)
        ]
        parts.append(np.array(told, np.int8))
        rows += len(told)
        if rows >= limit:
            break
    return np.concatenate(parts)[:limit]


def snorkel(path: Path, functions: dict[str, Plain], limit: int) -> tuple[Any, Callable[[], Any]]:
    """Return Snorkel's applier for data frames, ready to go."""
    from snorkel.labeling import LabelingFunction, PandasLFApplier

    frame = pq.read_table(path, columns=["text", "stars"]).slice(0, limit).to_pandas()
    wrapped = [LabelingFunction(name=name, f=function) for name, function in functions.items()]
    applier = PandasLFApplier(wrapped)
    return frame, lambda: applier.apply(frame, progress_bar=False).astype(np.int8)


def main(who: str, rows: str, votes: str, limit: str, only: str) -> None:
    path = Path(rows)
    made = json.loads(path.with_suffix(".json").read_text("utf-8"))
    functions = plain_functions(made["lexicon"], made["things"])
    if only == "compiled":
        del functions["shouting"]  # the one that is Python on every side
    if who == "snorkel":
        _, work = snorkel(path, functions, int(limit))
    else:
        work = lambda: loop(path, functions, int(limit))  # noqa: E731
    begun, used = time.perf_counter(), time.process_time()
    found = work()
    told = {
        "rows": len(found),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - used,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    np.save(votes, found)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:6])
