"""Did the repair help? The score before and after on the rows concerned, and what follows from it.

Gold decides where there is some: the old and the new champion on the same rows, with a paired
interval. Where there is none, each model's sureness, calibrated on the gold it was compared with,
stands for how often it is right (see `fm_platform.monitoring.impact`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fm_platform.monitoring.answered import Answered, calibrated, signs
from fm_platform.monitoring.impact import BOOTSTRAPS, LEAST_GOLD
from fm_platform.monitoring.records import Alert

Closing = Literal["repaired", "not_repaired", "made_worse"]
Champion = Literal["same", "new", "back"]
"""What became of the champion: it is the same, a new one, or the old one that was put back."""
MUCH_WORSE = 1.0
"""Points by which the expected loss must have grown to call an alert worse without gold."""
_LEVEL = 0.9


@dataclass(frozen=True)
class Span:
    """A number with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, point: float, drawn: Sequence[float] | np.ndarray) -> Span:
        """Return a point with the 90 % interval of its resamples."""
        low, high = np.quantile(np.asarray(drawn), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        return cls(round(float(point), 6), round(float(low), 6), round(float(high), 6))


@dataclass(frozen=True)
class Score:
    """A score before and after a repair, on the same rows.

    Attributes:
        metric: Its name; in [0, 1].
        slices: Sources of these rows.
        rows: How many.
        method: `gold` or `estimate`.
        before, after: Of the old and of the new champion.
        change: after - before, paired.
    """

    metric: str
    slices: tuple[str, ...]
    rows: int
    method: str
    before: Span
    after: Span
    change: Span

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `Score.from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Score:
        """Return the score that `to_json` wrote."""
        spans = {name: Span(**value[name]) for name in ("before", "after", "change")}
        return cls(**{**value, "slices": tuple(value["slices"]), **spans})

    @property
    def words(self) -> str:
        """The score in a sentence, e.g. `f1_weighted on amazon 0.612 -> 0.671 (...)`."""
        where, change = ", ".join(self.slices), self.change
        rows = f"{self.rows} {'gold rows' if self.method == 'gold' else 'rows, estimated'}"
        return (
            f"{self.metric} on {where} {self.before.value:.3f} -> {self.after.value:.3f} "
            f"({change.value:+.3f}, from {change.low:+.3f} to {change.high:+.3f}, {rows})"
        )


@dataclass(frozen=True)
class Outcome:
    """How an alert closes, in words, with the score where there is one."""

    what: Closing
    words: str
    score: Score | None = None


def judged(
    alert: Alert, again: Alert | None, score: Score | None, *, trained: bool, champion: Champion,
    said: str = "",
) -> Outcome:  # fmt: skip
    """Return how an alert closes after its repair.

    That the cause is no longer found says little after a training: the new champion was compared
    with rows that hold it. So a training has repaired only what it made better on these rows.

    Args:
        alert: As it was before the repair.
        again: The same cause on the same day, looked at after it; None: no longer found, or so
            small that it sends nothing.
        score: Old and new champion on the rows concerned; None where there is nothing to compare.
        trained: Whether the repair built models.
        champion: What became of the champion.
        said: Why, in the words of the gate or of the rollback.
    """
    told = score.words if score else ""

    def closed(what: Closing, *words: str) -> Outcome:
        return Outcome(what, "; ".join(filter(None, (*words, told))), score)

    if champion == "back":
        return closed("made_worse", f"the champion was put back: {said}" if said else "")
    if champion == "new" and score is not None and score.change.high < 0:
        return closed("made_worse", "the new champion is surely worse on these rows")
    if again is not None:
        loss, now = alert.impact.worst, again.impact.worst
        if now > loss + MUCH_WORSE:
            return closed("made_worse", f"expected loss {loss:.1f} -> {now:.1f} points")
        return closed("not_repaired", "the same cause is still found")
    if trained and champion == "same":
        why = f"the new model did not become champion: {said}" if said else ""
        return closed("not_repaired", why or "no new champion came of it")
    if trained and score is not None and score.change.value <= 0:
        return closed("not_repaired", "the new champion is no better on these rows")
    surely = "" if score is None or score.change.low > 0 else "the gain is within chance"
    return closed("repaired", "the cause is no longer found", surely)


def estimated(
    slices: Sequence[str], before: tuple[Answered, Answered], after: tuple[Answered, Answered],
    seed: int = 0,
) -> Score | None:  # fmt: skip
    """Return the estimated share of right answers of two models on the same rows, without gold.

    Args:
        slices: Sources of the rows.
        before: The rows of the day and those of the reference, as the old champion answered them.
        after: The same, of the new champion and its own reference.
        seed: Of the bootstrap.

    Returns:
        None where a reference holds too little gold to calibrate on.
    """
    generator = np.random.default_rng(seed)
    sides = []
    for today, reference in (before, after):
        known = np.flatnonzero(~np.isnan(reference.right))
        if len(known) < LEAST_GOLD or not len(today):
            return None
        sides.append((signs(today), signs(reference)[known], reference.right[known]))
    rows = len(sides[0][0])
    points = [float(calibrated(sure, right, now).mean()) for now, sure, right in sides]
    drawn = np.empty((BOOTSTRAPS, 2))
    for turn in range(BOOTSTRAPS):
        picked = generator.integers(0, rows, rows)
        for side, (now, sure, right) in enumerate(sides):
            known = generator.integers(0, len(sure), len(sure))
            told = calibrated(sure[known], right[known], now[picked % len(now)])
            drawn[turn, side] = told.mean()
    return Score(
        "accuracy", tuple(slices), rows, "estimate", Span.of(points[0], drawn[:, 0]),
        Span.of(points[1], drawn[:, 1]), Span.of(points[1] - points[0], drawn[:, 1] - drawn[:, 0]),
    )  # fmt: skip
