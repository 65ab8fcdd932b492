"""Search for labeling functions: runs of words, word weights, metadata, examples that are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.suggest import Apply, Believed, Declared, first_that_holds, interval

Examples = Mapping[str, Sequence[str]]
"""Class -> texts."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_LONGEST = 3
_MOST_WORDS, _MOST_WEIGHTS, _MOST_VALUES = 25, 60, 50
_LEADS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
_MARGINS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_BOUNDS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
_OPERATORS = ("<=", ">=")


@dataclass(frozen=True)
class Search:
    """What candidates are searched on, and with.

    Attributes:
        rows: Rows for the search.
        examples: What a person gave.
        classes: All classes, in order.
        apply: Runs a function.
        threshold: For the lower bound of the precision.
        least: Hits below which nothing is a candidate.
    """

    rows: Believed
    examples: Examples
    classes: tuple[str, ...]
    apply: Apply
    threshold: float
    least: int

    def first(self, variants: Iterable[Declared], most: int | None = None) -> Iterator[Declared]:
        """Yield the widest variant that holds, if one does."""
        rows = self.rows
        if most is not None:
            rows = rows.part(np.ones(len(rows.known), np.bool_), most)
        found = first_that_holds(list(variants), rows, self.apply, self.threshold, self.least)
        if found is not None:
            yield found


def grams(text: str, longest: int = _LONGEST) -> list[str]:
    """Return the runs of one to `longest` words of a text, in lower case.

    Example:
        >>> grams("Not so good", 2)
        ['not', 'so', 'good', 'not so', 'so good']
    """
    words = _WORD.findall(text.lower())
    return [
        " ".join(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1)
    ]


@dataclass(frozen=True)
class Counted:
    """How often each run of words occurs in rows of which something is believed.

    Attributes:
        grams: g runs of words.
        rows: int64[g], rows that hold it.
        mass: float64[g, k], of which class these are expected to be.
    """

    grams: list[str]
    rows: npt.NDArray[np.int64]
    mass: npt.NDArray[np.float64]


def count(search: Search) -> Counted:
    """Count the runs of words of the rows; those with too few rows are left out."""
    numbers: dict[str, int] = {}
    where: list[int] = []
    which: list[int] = []
    texts = search.rows.batch.column("text").to_pylist()
    for i in np.flatnonzero(search.rows.known).tolist():
        for gram in set(grams(texts[i] or "")):
            where.append(i)
            which.append(numbers.setdefault(gram, len(numbers)))
    found = np.array(which, np.int64)
    rows = np.bincount(found, minlength=len(numbers)).astype(np.int64)
    belief = search.rows.belief[np.array(where, np.int64)]
    mass: npt.NDArray[np.float64] = np.stack(
        [np.bincount(found, belief[:, c], len(numbers)) for c in range(belief.shape[1])], axis=1
    )
    names = list(numbers)
    often = sorted(np.flatnonzero(rows >= search.least).tolist(), key=lambda g: names[g])
    return Counted([names[g] for g in often], rows[often], mass[often])


def word_lists(search: Search, counted: Counted) -> Iterator[Declared]:
    """Yield keyword functions: runs of words of the examples, and of rows of their classes."""
    said = {name: {g for t in texts for g in grams(t)} for name, texts in search.examples.items()}
    for label in _wanted(search):
        c = search.classes.index(label)
        others = set().union(*(g for name, g in said.items() if name != label))
        sure = []
        for i, gram in enumerate(counted.grams):
            low, _ = interval(float(counted.mass[i, c]), int(counted.rows[i]))
            if low >= search.threshold:
                sure.append((-low * int(counted.rows[i]), gram))
        ranked = [gram for _, gram in sorted(sure)]
        own = [gram for gram in ranked if gram in said[label] - others]
        for name, listed in (("said", own), ("words", ranked)):
            words = _without_longer(listed)[:_MOST_WORDS]
            if words:
                yield {
                    "kind": "keyword", "name": f"suggested_{label}_{name}", "words": words,
                    "label": label,
                }  # fmt: skip


def _without_longer(ranked: Sequence[str]) -> list[str]:
    """Return runs of words without those that hold one that is listed anyway."""
    chosen: list[str] = []
    for gram in sorted(ranked, key=lambda g: g.count(" ")):
        if not any(f" {short} " in f" {gram} " for short in chosen):
            chosen.append(gram)
    return sorted(chosen, key=list(ranked).index)


def lexicon(search: Search, counted: Counted) -> Iterator[Declared]:
    """Yield a lexicon that tells the two classes with most examples apart."""
    pair = sorted(_wanted(search), key=lambda name: -len(search.examples[name]))[:2]
    if len(pair) < 2:
        return
    a, b = (search.classes.index(name) for name in pair)
    single = np.array([" " not in gram for gram in counted.grams], np.bool_)
    total = search.rows.belief[search.rows.known].sum(axis=0) + 1
    ratio = np.log((counted.mass[:, a] + 1) / (counted.mass[:, b] + 1)) - np.log(
        total[a] / total[b]
    )
    weight = np.where(single, np.abs(ratio) * np.sqrt(counted.rows), 0.0)
    best = sorted(np.argsort(-weight, kind="stable")[:_MOST_WEIGHTS].tolist())
    weights = {counted.grams[g]: round(float(ratio[g]), 2) for g in best if weight[g] > 0}
    if not weights:
        return
    yield from search.first(
        {"kind": "lexicon", "name": f"suggested_{pair[0]}_or_{pair[1]}", "weights": weights,
         "above": pair[0], "below": pair[1], "upper": bound, "lower": -bound}
        for bound in _BOUNDS
    )  # fmt: skip


def metadata(search: Search, numeric: Sequence[str], textual: Sequence[str]) -> Iterator[Declared]:
    """Yield rules on columns: numbers compared with their deciles, values of short lists."""
    for label in _wanted(search):
        for column in numeric:
            cuts = _deciles(search, column)
            for operator in _OPERATORS:
                ordered = cuts if operator == ">=" else cuts[::-1]
                yield from search.first(
                    _rule(label, column, operator, cut, "high" if operator == ">=" else "low")
                    for cut in ordered
                )
        for column in textual:
            values = sorted({v for v in search.rows.batch.column(column).to_pylist() if v})
            for value in values if len(values) <= _MOST_VALUES else ():
                tail = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_")[:24]
                yield from search.first([_rule(label, column, "==", value, tail)])


def _rule(label: str, column: str, operator: str, value: Any, tail: str) -> Declared:
    return {
        "kind": "rule", "name": f"suggested_{label}_{column}_{tail}"[:64].rstrip("_"),
        "column": column, "operator": operator, "value": value, "label": label,
    }  # fmt: skip


def _deciles(search: Search, column: str) -> list[float]:
    batch = search.rows.batch
    if column in batch.schema.names:
        values = [v for v in batch.column(column).to_pylist() if v is not None]
    else:  # measures of the text, as `labeling.conditions` takes them
        texts = [text or "" for text in batch.column("text").to_pylist()]
        values = [len(t) if column == "char_count" else len(_WORD.findall(t)) for t in texts]
    if not values:
        return []
    cuts = np.quantile(np.array(values, np.float64), np.arange(1, 10) / 10)
    return [float(cut) for cut in sorted({round(float(c), 6) for c in cuts})]


def alike(search: Search, model: str, most: int) -> Iterator[Declared]:
    """Yield a function that votes as the nearest examples, in the embedding of a model."""
    examples = {name: list(search.examples[name]) for name in _wanted(search)}
    if len(examples) < 2:
        return
    yield from search.first(
        ({"kind": "nearest", "name": "suggested_like_the_examples", "model": model,
          "examples": examples, "minimum_lead": lead} for lead in _LEADS),
        most,
    )  # fmt: skip


def asked(
    search: Search, model: str, template: str, answers: Mapping[str, Sequence[str]], most: int
) -> Iterator[Declared]:
    """Yield a prompt function of a stated intention."""
    said = {name: list(words) for name, words in answers.items()}
    yield from search.first(
        ({"kind": "prompt", "name": "suggested_prompt", "model": model, "template": template,
          "answers": said, "minimum_margin": margin} for margin in _MARGINS),
        most,
    )  # fmt: skip


def _wanted(search: Search) -> list[str]:
    """Return the classes that have examples, in the order of the classes."""
    return [name for name in search.classes if search.examples.get(name)]
