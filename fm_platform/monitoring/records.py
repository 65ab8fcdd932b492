"""What monitoring says: findings, alerts, their impact and their repairs, as plain JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from fm_platform.hashing import fingerprint

Severity = Literal["record", "low", "medium", "high"]
"""`record` is kept and sends nothing."""
SEVERITIES: tuple[Severity, ...] = ("record", "low", "medium", "high")

COLUMNS = ("nulls", "value", "range")
"""Kinds of cause that lie in a structured column."""
ALL = "all"
"""The slice that holds every row."""

T = TypeVar("T")


@dataclass(frozen=True)
class Band:
    """What is normal for a metric on such a day.

    Attributes:
        low, high: Bounds of the metric itself, or of its distance to the reference.
        scale: How much more than chance the metric moved between past days (1: not more).
        days: Past days it was learned from; `nearest` the three most alike by weekday and time.
        weekday: True where it was learned from days of the same weekday.
    """

    low: float
    high: float
    scale: float = 1.0
    days: int = 0
    nearest: tuple[tuple[str, float], ...] = ()
    weekday: bool = False


@dataclass(frozen=True)
class Move:
    """One value that became more or less common: shares in [0, 1]."""

    value: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """Difference of the shares."""
        return self.after - self.before


@dataclass(frozen=True)
class Finding:
    """One metric that left its band.

    Attributes:
        metric: `family:name`, e.g. `column:price`, `function:vader`, `text:terms`.
        slice: `all`, or a source.
        kind: What happened: `came`, `gone`, `volume`, `shares`, `range`, `nulls`, `vectors`,
            `accuracy`, `duplicates`.
        before, after: The metric in words' units: a share, a median, a count.
        moves: The values that moved most, largest first.
        since: First day of the unbroken run of such days.
        day: The day that was looked at.
        rows: Rows of that day and slice.
        statistic: Name of the test and its value.
        distance: Effect size in [0, 1] (KS, total variation, change of a share).
        p_value: After the correction for past restlessness, before that for many tests.
        corrected: After the correction for all tests of the day (Holm).
        band: What was normal.
    """

    metric: str
    slice: str
    kind: str
    day: str
    since: str
    before: float
    after: float
    moves: tuple[Move, ...]
    rows: int
    statistic: tuple[str, float]
    distance: float
    p_value: float
    corrected: float
    band: Band

    @property
    def family(self) -> str:
        """The part of the metric before the colon."""
        return self.metric.partition(":")[0]

    @property
    def name(self) -> str:
        """The part of the metric after the colon."""
        return self.metric.partition(":")[2]

    @property
    def key(self) -> tuple[str, str]:
        """Metric and slice."""
        return (self.metric, self.slice)


@dataclass(frozen=True)
class Cause:
    """What explains an alert: a segment of rows, or a metric as a whole.

    Attributes:
        kind: `source_came`, `source_gone`, `volume`, `value`, `range`, `nulls`, `language`,
            `duplicates`, `function`, `label_model`, `labels`, `text`, `concept`,
            `confidence`.
        name: Source, column, labeling function, or kind of label model that was used before.
        value: The value of the column where it is one value; the kind of label model used now.
        slices: Sources in which it was seen.
        terms: Terms that came or went in the same rows, most telling first.
        explained: Share of the findings' strength that goes when the segment is put right.
    """

    kind: str
    name: str
    value: str | None
    slices: tuple[str, ...]
    terms: tuple[str, ...] = ()
    explained: float = 1.0

    @property
    def key(self) -> str:
        """The same for the same cause on another day."""
        return "/".join((self.kind, self.name, self.value or "", ",".join(self.slices)))


@dataclass(frozen=True)
class Estimate:
    """A change of a score in points (100 points: from none to all right), with its interval."""

    points: float
    low: float
    high: float
    method: str
    rows: int = 0


@dataclass(frozen=True)
class Impact:
    """What an alert costs.

    Attributes:
        change: Estimated change of the champion's score on the rows of the day; below 0 is worse.
            It counts gold, too, where there is some.
        estimates: Every way it was estimated (`confidence`, `importance weighting`, `gold`).
        gold: The change measured on gold of the day, where there is enough.
        labels: Estimated change of the share of right weak labels, what the next model learns.
        importance: Weight of the moved thing to the model, in [0, 1]; None where unknown.
        share: Share of the day's rows that are concerned.
        models: Live models that read it, as `alias name@hash`.
        score: Name of the score.
    """

    change: Estimate
    estimates: tuple[Estimate, ...] = ()
    gold: Estimate | None = None
    labels: Estimate | None = None
    importance: float | None = None
    share: float = 1.0
    models: tuple[str, ...] = ()
    score: str = "accuracy"

    @property
    def worst(self) -> float:
        """The largest expected loss in points, of the champion or of the labels; 0 or more."""
        changes = [self.change.points]
        if self.labels is not None:
            changes.append(self.labels.points)
        return max(0.0, *(-change for change in changes))


@dataclass(frozen=True)
class Repair:
    """One way to put an alert right.

    Attributes:
        kind: `backfill`, `retrain`, `add_expert`, `function`, `fix_upstream`, `accept`.
        title: In words, as on a button.
        reason: Why it would help.
        days: Partitions to build again, sorted.
        stages: Assets to build again: `raw`, `weak_labels`, `cleaned`, `adapters`, ...
        experts: Experts to train again or to add.
        gain: Expected change of the score in points.
        minutes: Expected minutes of computation; None where people must act.
        automatic: Whether a policy may let it run by itself.
        details: For people: columns, rows, functions.
    """

    kind: str
    title: str
    reason: str
    days: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    gain: float = 0.0
    minutes: float | None = None
    automatic: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """One cause, everything found of it, what it costs, and what would put it right.

    `id` is the same for the same cause and first day, however often it is looked at.
    """

    project: str
    day: str
    since: str
    cause: Cause
    title: str
    words: tuple[str, ...]
    findings: tuple[Finding, ...]
    impact: Impact
    severity: Severity
    repairs: tuple[Repair, ...] = ()
    reference: str = ""

    @property
    def id(self) -> str:
        """Twelve hex digits of project, cause and first day."""
        return fingerprint([self.project, self.cause.key, self.since])[:12]

    @property
    def sends(self) -> bool:
        """Whether anybody is told."""
        return self.severity != "record"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `Alert.from_json` reads them."""
        return {"id": self.id, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Alert:
        """Return the alert that `to_json` wrote."""
        body = {name: value[name] for name in value if name != "id"}
        cause = {**body["cause"]}
        cause["slices"], cause["terms"] = tuple(cause["slices"]), tuple(cause["terms"])
        return cls(
            **{
                **body,
                "cause": Cause(**cause),
                "words": tuple(body["words"]),
                "findings": tuple(finding_from_json(item) for item in body["findings"]),
                "impact": _impact(body["impact"]),
                "repairs": tuple(_repair(item) for item in body["repairs"]),
            }
        )


def finding_from_json(value: Mapping[str, Any]) -> Finding:
    """Return the finding of a JSON object as `dataclasses.asdict` gives it."""
    band = {**value["band"]}
    band["nearest"] = tuple((str(day), float(number)) for day, number in band["nearest"])
    name, number = value["statistic"]
    return Finding(
        **{
            **value,
            "moves": tuple(Move(**move) for move in value["moves"]),
            "statistic": (str(name), float(number)),
            "band": Band(**band),
        }
    )


def _impact(value: Mapping[str, Any]) -> Impact:
    def one(item: Mapping[str, Any] | None) -> Estimate | None:
        return None if item is None else Estimate(**item)

    return Impact(
        **{
            **value,
            "change": Estimate(**value["change"]),
            "estimates": tuple(Estimate(**item) for item in value["estimates"]),
            "gold": one(value["gold"]),
            "labels": one(value["labels"]),
            "models": tuple(value["models"]),
        }
    )


def _repair(value: Mapping[str, Any]) -> Repair:
    return Repair(
        **{**value, **{name: tuple(value[name]) for name in ("days", "stages", "experts")}}
    )
