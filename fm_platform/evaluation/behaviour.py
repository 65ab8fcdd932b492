"""Behaviour tests: cases made from declarations, and which of them a model passes.

Source: Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with CheckList (2020).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import EvaluationError
from fm_platform.hashing import fingerprint
from fm_platform.spec.behaviour import Behaviour, Change, Direction, Functionality, Texts

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SHOWN = 5  # failures that a result keeps

Predict = Callable[[list[str]], npt.NDArray[np.floating]]


@dataclass(frozen=True)
class Case:
    """One text, its changed form (None for functionality), and the id of its row, if any."""

    text: str
    changed: str | None = None
    row_id: str | None = None


@dataclass(frozen=True)
class BehaviourResult:
    """What one test found.

    Attributes:
        name / kind / why: As declared.
        cases: Number of cases.
        passed: Of these, how many passed.
        at_least: Share that must pass.
        required: Whether a failure keeps a model from promotion.
        failures: Some failed cases: what was asked and what was answered. Of rows only the id is
            kept, never the text.
    """

    name: str
    kind: str
    why: str
    cases: int
    passed: int
    at_least: float
    required: bool
    failures: tuple[dict[str, str], ...]

    @property
    def share(self) -> float:
        """Share of cases that passed, 0..1."""
        return round(self.passed / self.cases, 6)

    @property
    def ok(self) -> bool:
        """Whether enough cases passed."""
        return self.passed >= self.at_least * self.cases - 1e-9

    @property
    def told(self) -> str:
        """One clause with the numbers."""
        return (
            f"behaviour test {self.name!r} passes in {self.passed} of {self.cases} cases "
            f"({self.share:.1%}, at least {self.at_least:.1%})"
        )

    def record(self) -> dict[str, Any]:
        """Return one row of a small table."""
        return {
            "name": self.name, "kind": self.kind, "cases": self.cases, "passed": self.passed,
            "share": self.share, "at_least": self.at_least, "required": self.required,
            "ok": self.ok,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the result with some failures, for the ledger."""
        return {**self.record(), "why": self.why, "failures": list(self.failures)}


def run_behaviour(
    tests: Sequence[Behaviour],
    predict: Predict,
    classes: Sequence[str],
    rows: Sequence[tuple[str, str]],
    seed: int,
) -> tuple[BehaviourResult, ...]:
    """Run every test on one model; all texts are asked in one batch.

    Args:
        tests: As declared.
        predict: Texts -> probabilities float[n, k].
        classes: The k class names.
        rows: (row id, text) that tests may draw from.
        seed: Of the samples and typos.

    Raises:
        EvaluationError: If a test has no case: a test that cannot fail tests nothing.
    """
    made = [(test, cases_of(test, rows, seed)) for test in tests]
    for test, cases in made:
        if not cases:
            raise EvaluationError(
                f"the behaviour test {test.name!r} has no case",
                expected="at least one text that its change alters",
                where="evaluation.behaviour",
                next_step="declare templates, or words that occur in the rows",
            )
    texts = sorted({text for _, cases in made for case in cases for text in _texts(case)})
    if not texts:
        return ()
    probabilities = np.asarray(predict(texts), np.float64)
    at = {text: i for i, text in enumerate(texts)}
    return tuple(_result(test, cases, probabilities, at, list(classes)) for test, cases in made)


def cases_of(test: Behaviour, rows: Sequence[tuple[str, str]] = (), seed: int = 0) -> list[Case]:
    """Return the cases of a test, in a fixed order; of too many a sample seeded by its name."""
    own = int(fingerprint({"behaviour": test.name, "seed": seed})[:8], 16)
    generator = np.random.default_rng(own)
    found = []
    for row_id, text in _sources(test.texts, rows, generator):
        if isinstance(test, Functionality):
            found.append(Case(text, None, row_id))
        else:
            found += [Case(text, other, row_id) for other in _changed(text, test.change, generator)]
    unique = list(dict.fromkeys(found))
    return [unique[i] for i in _some(len(unique), test.texts.at_most, generator)]


def _sources(
    texts: Texts, rows: Sequence[tuple[str, str]], generator: np.random.Generator
) -> Iterator[tuple[str | None, str]]:
    if texts.rows:
        for i in _some(len(rows), texts.rows, generator):
            yield rows[i]
    for template in texts.templates:
        places = list(dict.fromkeys(_PLACE.findall(template)))
        for words in product(*(texts.fill[place] for place in places)):
            yield None, _filled(template, dict(zip(places, words, strict=True)))


def _filled(template: str, words: dict[str, str]) -> str:
    return _PLACE.sub(lambda found: words[found[1]], template)


def _some(n: int, most: int, generator: np.random.Generator) -> list[int]:
    if n <= most:
        return list(range(n))
    return sorted(int(i) for i in generator.choice(n, most, replace=False))


def _changed(text: str, change: Change, generator: np.random.Generator) -> Iterator[str]:
    forms = [
        *(text + end for end in change.append),
        *(start + text for start in change.prepend),
        *_replaced(text, change.replace),
    ]
    if not (change.append or change.prepend or change.replace):
        forms = [text]
    for form in forms:
        if change.case is not None:
            form = form.lower() if change.case == "lower" else form.upper()
        form = _mistyped(form, change.typos, generator)
        if form != text:
            yield form


def _replaced(text: str, replace: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for word, others in sorted(replace.items()):
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        for other in others:
            form = other.join(pattern.split(text))  # as it is: no escapes, no groups
            if form != text:
                yield form


def _mistyped(text: str, typos: int, generator: np.random.Generator) -> str:
    """Exchange so many pairs of neighbouring letters, each pair at most once."""
    letters = list(text)
    pairs = [
        i for i in range(len(letters) - 1)
        if letters[i].isalpha() and letters[i + 1].isalpha() and letters[i] != letters[i + 1]
    ]  # fmt: skip
    for _ in range(min(typos, len(pairs))):
        if not pairs:
            break
        i = pairs[int(generator.integers(len(pairs)))]
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
        pairs = [j for j in pairs if abs(j - i) > 1]
    return "".join(letters)


def _texts(case: Case) -> list[str]:
    return [case.text] if case.changed is None else [case.text, case.changed]


def _result(
    test: Behaviour,
    cases: list[Case],
    probabilities: npt.NDArray[np.float64],
    at: dict[str, int],
    classes: list[str],
) -> BehaviourResult:
    before = probabilities[[at[case.text] for case in cases]]
    after = probabilities[[at[case.changed or case.text] for case in cases]]
    passes = _passes(test, before, after, classes)
    failed = np.flatnonzero(~passes)[:_SHOWN]
    return BehaviourResult(
        test.name, test.kind, test.why, len(cases), int(passes.sum()), test.at_least,
        test.required,
        tuple(_failure(cases[i], before[i], after[i], classes) for i in failed),
    )  # fmt: skip


def _passes(
    test: Behaviour,
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    classes: list[str],
) -> npt.NDArray[np.bool_]:
    """Return bool[n] of the cases; `before` and `after` are float[n, k]."""
    if isinstance(test, Functionality):
        wanted = [classes.index(label) for label in test.labels]
        return np.isin(before.argmax(axis=1), wanted)
    if isinstance(test, Direction):
        place = classes.index(test.label)
        moved = after[:, place] - before[:, place]
        return np.asarray((moved if test.moves == "up" else -moved) >= -test.slack, bool)
    return np.asarray(before.argmax(axis=1) == after.argmax(axis=1), bool)


def _failure(
    case: Case,
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    classes: list[str],
) -> dict[str, str]:
    told = {"answer": _answer(before, classes)}
    if case.changed is not None:
        told["after"] = _answer(after, classes)
    if case.row_id is not None:
        return {"row_id": case.row_id, **told}
    told = {"text": case.text, **told}
    return told if case.changed is None else {**told, "changed": case.changed}


def _answer(probabilities: npt.NDArray[np.float64], classes: list[str]) -> str:
    best = int(probabilities.argmax())
    return f"{classes[best]} ({probabilities[best]:.2f})"
