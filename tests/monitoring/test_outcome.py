"""Did it help? What follows from the score before and after."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.monitoring.answered import Answered
from fm_platform.monitoring.outcome import Score, Span, estimated, judged
from fm_platform.monitoring.records import Alert, Cause, Estimate, Impact


def alert(loss: float = 6.0) -> Alert:
    return Alert(
        "shop", "2026-01-03", "2026-01-03", Cause("source_came", "amazon", None, ("amazon",)),
        "amazon came", (), (), Impact(Estimate(-loss, -loss - 1, -loss + 1, "confidence")), "high",
    )  # fmt: skip


def score(change: float, reach: float = 0.01) -> Score:
    moved = Span(change, change - reach, change + reach)
    return Score(
        "f1_weighted",
        ("amazon",),
        300,
        "gold",
        Span(0.6, 0.5, 0.7),
        Span(0.6 + change, 0, 1),
        moved,
    )


@pytest.mark.parametrize(
    ("again", "score_", "champion", "what", "words"),
    [
        (None, score(0.05), "new", "repaired", "no longer found; f1_weighted on amazon 0.600"),
        (None, score(0.05, 0.06), "new", "repaired", "within chance"),
        (None, score(-0.005), "new", "not_repaired", "no better"),
        (None, score(-0.05), "new", "made_worse", "surely worse"),
        (None, score(0.05), "same", "not_repaired", "did not become champion: below the minimum"),
        (None, None, "back", "made_worse", "put back: below the minimum"),
        (alert(), score(0.05), "new", "not_repaired", "still found"),
        (alert(9.0), None, "new", "made_worse", "6.0 -> 9.0 points"),
    ],
)  # fmt: skip
def test_a_training_has_repaired_only_what_it_made_better(
    again: Alert | None, score_: Score | None, champion: str, what: str, words: str
) -> None:
    found = judged(
        alert(), again, score_, trained=True, champion=champion, said="below the minimum"  # type: ignore[arg-type]
    )  # fmt: skip

    assert found.what == what
    assert words in found.words


def test_days_built_again_have_repaired_what_is_no_longer_found() -> None:
    assert judged(alert(), None, None, trained=False, champion="same").what == "repaired"


def test_a_score_is_read_as_it_was_written() -> None:
    assert Score.from_json(score(0.05).to_json()) == score(0.05)


def _answered(sure: np.ndarray, right: np.ndarray | None = None) -> Answered:
    n = len(sure)
    nothing = np.full(n, np.nan)
    return Answered(
        sure, nothing if right is None else right, nothing, np.zeros(n), nothing, sure[:, None],
        np.full(n, "amazon", object),
    )  # fmt: skip


def test_without_gold_a_surer_calibrated_model_is_estimated_to_be_better() -> None:
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.4, 1.0, 2_000)
    reference = _answered(sure, (generator.random(2_000) < sure).astype(float))
    before, after = (_answered(generator.uniform(low, 0.95, 400)) for low in (0.4, 0.8))

    found = estimated(("amazon",), (before, reference), (after, reference))

    assert found is not None
    assert found.change.low > 0
    assert found.before.value == pytest.approx(0.675, abs=0.03)
    assert found.after.value == pytest.approx(0.875, abs=0.03)


def test_without_gold_in_the_reference_nothing_is_estimated() -> None:
    rows = _answered(np.full(40, 0.8))

    assert estimated(("amazon",), (rows, rows), (rows, rows)) is None
