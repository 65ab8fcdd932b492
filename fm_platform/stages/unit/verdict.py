"""What a hand-made set shows: a verdict for each link of the chain, with row, expected, found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fm_platform.display import plain
from fm_platform.labeling.partial import ABSTAIN
from fm_platform.spec.models import ProjectSpec, Unit
from fm_platform.stages.common import CheckResult
from fm_platform.stages.unit.chain import Outcome
from fm_platform.stages.unit.rows import UnitRows

TOLERANCE = 1e-4
"""How far a row of float32 probabilities may be from a sum of 1."""
_NAMED = 5
_TEXT_CHARS = 60


def judge(spec: ProjectSpec, rows: UnitRows, outcome: Outcome) -> tuple[CheckResult, ...]:
    """Return the verdicts, link by link, as far as the chain went.

    Args:
        spec: The project, which declares a unit set.
        rows: The set.
        outcome: What came of it.
    """
    declared = spec.unit or Unit()
    found = [*_labeling(spec, rows, outcome, declared), *_models(spec, rows, outcome, declared)]
    if outcome.stopped is not None:
        step, error = outcome.stopped
        found.append(CheckResult(step.replace(" ", "_"), False, f"{step} failed: {error}"))
    return tuple(found)


def row_table(spec: ProjectSpec, rows: UnitRows, outcome: Outcome) -> list[dict[str, Any]]:
    """Return one line a row: what was expected, what the label model and the model said."""
    answered = _answers(spec, outcome)
    return [
        {
            "row": i + 1, "source": rows.sources[i], "expected": rows.labels[i],
            "labeled": outcome.labeled[i] if outcome.labeled else None,
            "removed by": outcome.removed.get(i, ("", ""))[0],
            "taught": _class(spec, outcome.taught.get(i)),
            "answered": answered[i] if answered else None,
            "text": plain(rows.texts[i], _TEXT_CHARS),
        }
        for i in range(len(rows.labels))
    ]  # fmt: skip


def _labeling(
    spec: ProjectSpec, rows: UnitRows, outcome: Outcome, declared: Unit
) -> Iterator[CheckResult]:
    if not outcome.columns:
        return
    failed = [
        f"{column.name} fails on {column.failed_rows} rows ({_places(column.first_failures, rows)})"
        for column in outcome.columns if column.failed_rows
    ]  # fmt: skip
    silent = [c.name for c in outcome.columns if bool((c.votes == ABSTAIN).all())]
    told = f"; {_some(silent)} abstain{'s' * (len(silent) == 1)} everywhere" if silent else ""
    yield CheckResult(
        "votes", not failed,
        (_some(failed) if failed else f"{len(outcome.columns)} functions vote, none raises") + told,
        {"failing": len(failed), "silent": ", ".join(silent)},
    )  # fmt: skip
    yield _classes(spec, rows, outcome)
    if outcome.labeled:
        yield _expected(rows, outcome, declared.at_least)


def _places(failures: Sequence[str], rows: UnitRows) -> str:
    """Return e.g. `row 3: KeyError` for failures that are told by row id."""
    ids = rows.rows["row_id"].to_pylist()
    told = [
        (ids.index(row) + 1, reason) for row, _, reason in (f.partition(": ") for f in failures)
    ]
    return ", ".join(f"row {row}: {reason}" for row, reason in told)


def _classes(spec: ProjectSpec, rows: UnitRows, outcome: Outcome) -> CheckResult:
    """Return whether each class has a row, and a function that votes for it on some row."""
    votes: Counter[int] = Counter()
    for column in outcome.columns:
        for code, count in Counter(column.votes.tolist()).items():
            votes.update(dict.fromkeys(column.sets.members(code), count)
                         if code != ABSTAIN else {})  # fmt: skip
    names = spec.taxonomy.classes
    without = [name for name in names if name not in rows.labels]
    unreached = [name for i, name in enumerate(names) if not votes[i]]
    told = [f"no row expects {_some(without)}"] if without else []
    told += [f"no function votes for {_some(unreached)}"] if unreached else []
    counts = {name: votes[i] for i, name in enumerate(names)}
    reached = ", ".join(f"{name} {count}" for name, count in counts.items())
    return CheckResult("classes", not told, "; ".join(told) or f"votes: {reached}", counts)


def _expected(rows: UnitRows, outcome: Outcome, at_least: float) -> CheckResult:
    wrong = [
        _row(i, rows, expected, found or "no vote")
        for i, (expected, found) in enumerate(zip(rows.labels, outcome.labeled, strict=True))
        if expected != found
    ]
    return _share("labels", "are labeled as expected", wrong, len(rows.labels), at_least)


def _models(
    spec: ProjectSpec, rows: UnitRows, outcome: Outcome, declared: Unit
) -> Iterator[CheckResult]:
    if outcome.posteriors is not None and (outcome.taught or outcome.removed):
        yield _cleaned(spec, outcome, len(rows.labels))
    if "shared start" in outcome.losses:
        first, last = outcome.losses["shared start"]
        losses = {name: last for name, (_, last) in outcome.losses.items()}
        yield CheckResult(
            "loss", last < first,
            f"{declared.epochs} epochs took the loss from {first:.3f} to {last:.3f}", losses,
        )  # fmt: skip
    if outcome.answers is None or outcome.posteriors is None:
        return
    answered = _answers(spec, outcome)
    wrong = [
        _row(i, rows, _class(spec, taught), answered[i])
        for i, taught in sorted(outcome.taught.items())
        if _class(spec, taught) != answered[i]
    ]
    words = "are answered by the merged model as it was taught"
    yield _share("learned", words, wrong, len(outcome.taught), declared.learned)
    gap = max(
        float(np.abs(told.sum(axis=1) - 1.0).max())
        for told in (outcome.posteriors, outcome.answers)
    )
    yield CheckResult(
        "probabilities", bool(gap <= TOLERANCE),
        f"probabilities of labels and answers sum to 1 within {gap:.1e}", {"gap": gap},
    )  # fmt: skip


def _cleaned(spec: ProjectSpec, outcome: Outcome, n: int) -> CheckResult:
    rules = Counter(rule for rule, _ in outcome.removed.values())
    left = [name for i, name in enumerate(spec.taxonomy.classes)
            if i not in outcome.taught.values()]  # fmt: skip
    told = f"{len(outcome.taught)} of {n} rows stay"
    if rules:
        named = [f"row {i + 1} by {rule}" for i, (rule, _) in sorted(outcome.removed.items())]
        told += f"; removed: {_some(named)}"
    if outcome.left_out:
        told += f"; not run on a few rows: {', '.join(outcome.left_out)}"
    if left:
        told += f"; no row is left that teaches {_some(left)}"
    return CheckResult("cleaned", not left, told, dict(rules))


def _share(
    name: str, words: str, wrong: Sequence[str], n: int, at_least: float
) -> CheckResult:  # fmt: skip
    right = n - len(wrong)
    share = right / n if n else 0.0
    told = f"{right} of {n} rows {words} ({share:.0%}, at least {at_least:.0%})"
    told += f": {_some(wrong)}" if wrong else ""
    return CheckResult(name, share >= at_least, told, {"share": share, "wrong": len(wrong)})


def _row(i: int, rows: UnitRows, expected: str | None, found: str) -> str:
    return f"row {i + 1} {plain(rows.texts[i], _TEXT_CHARS)!r}: expected {expected}, found {found}"


def _answers(spec: ProjectSpec, outcome: Outcome) -> list[str]:
    if outcome.answers is None:
        return []
    return [spec.taxonomy.classes[i] for i in outcome.answers.argmax(axis=1).tolist()]


def _class(spec: ProjectSpec, index: int | None) -> str | None:
    return None if index is None else spec.taxonomy.classes[index]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
