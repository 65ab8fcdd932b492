"""What would put an alert right, ordered by what it brings for what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from fm_platform.monitoring.cause import Group
from fm_platform.monitoring.records import ALL, Impact, Repair
from fm_platform.monitoring.words import shown

DATA_STAGES = ("raw", "weak_labels", "cleaned")
MODEL_STAGES = ("adapters", "merged_model", "evaluation")

# What part of the loss each kind of repair is expected to give back, until outcomes say better.
_SHARE = {"fix_upstream": 0.9, "function": 0.8, "add_expert": 0.7, "retrain": 0.6, "backfill": 0.5}


@dataclass(frozen=True)
class Costs:
    """What repairs cost here.

    Attributes:
        day_minutes: Minutes to build one day of all daily tables.
        model_minutes: Minutes to train, merge and evaluate.
        experts: Source -> experts that are trained on it.
        shares: Kind of repair -> share of the loss it gave back so far.
    """

    day_minutes: float = 0.5
    model_minutes: float = 15.0
    experts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


def days_between(first: str, last: str) -> tuple[str, ...]:
    """Return all days from `first` to `last`, both included."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return tuple((start + timedelta(days=i)).isoformat() for i in range((end - start).days + 1))


def repairs_of(group: Group, impact: Impact, day: str, costs: Costs) -> tuple[Repair, ...]:
    """Return the repairs of an alert; `accept` comes last."""
    since = min(finding.since for finding in group.findings)
    days = days_between(since, day)
    made = _Made(group, impact, days, costs)
    listed = {
        "source_came": (made.add_expert, made.retrain),
        "source_gone": (made.upstream, made.backfill_raw),
        "volume": (made.upstream, made.backfill_raw),
        "value": (made.upstream, made.function),
        "range": (made.upstream, made.function),
        "nulls": (made.upstream, made.function),
        "function": (made.function,),
        "label_model": (made.label_model,),
        "language": (made.function, made.retrain),
        "text": (made.retrain, made.function),
        "labels": (made.retrain,),
        "duplicates": (made.clean, made.upstream),
        "concept": (made.retrain, made.upstream),
        "confidence": (made.retrain,),
    }[group.cause.kind]
    found = [make() for make in listed]
    # what a machine can do without people goes first where it brings as much a minute
    found.sort(
        key=lambda r: (-(r.gain / (r.minutes if r.minutes is not None else 60.0)), not r.automatic)
    )
    return (*found, made.accept())


class _Made:
    """The repairs of one alert."""

    def __init__(self, group: Group, impact: Impact, days: tuple[str, ...], costs: Costs) -> None:
        self.cause, self.days, self.costs = group.cause, days, costs
        self.loss = impact.worst
        self.functions = sorted(
            {f.name for f in group.findings if f.family in ("function", "conflict")}
        )
        self.where = ", ".join(shown(name) for name in self.cause.slices)

    def _gain(self, kind: str) -> float:
        return round(self.loss * self.costs.shares.get(kind, _SHARE[kind]), 2)

    def _experts(self) -> tuple[str, ...]:
        named = {e for s in self.cause.slices for e in self.costs.experts.get(s, ())}
        if self.cause.slices == (ALL,):
            named = {e for experts in self.costs.experts.values() for e in experts}
        return tuple(sorted(named))

    def _daily(self) -> float:
        return self.costs.day_minutes * len(self.days)

    def add_expert(self) -> Repair:
        name = shown(self.cause.name)
        return Repair(
            "add_expert", f"Add an expert for {name} and train it",
            f"No expert has seen a row of {name}.", self.days, MODEL_STAGES, (self.cause.name,),
            self._gain("add_expert"), self.costs.model_minutes, False, {"source": self.cause.name},
        )  # fmt: skip

    def retrain(self) -> Repair:
        experts = self._experts()
        who = ", ".join(experts) if experts else "the experts"
        return Repair(
            "retrain", f"Train {who} again with the days since {self.days[0]}",
            "The live model was trained before this came.", self.days, MODEL_STAGES, experts,
            self._gain("retrain"), self.costs.model_minutes, True,
        )  # fmt: skip

    def function(self) -> Repair:
        names = self.functions or [self.cause.name]
        return Repair(
            "function", f"Change or add labeling functions: {', '.join(map(shown, names[:4]))}",
            f"Their votes moved in {self.where}; then {len(self.days)} days are labeled again.",
            self.days, ("weak_labels", "cleaned"), (), self._gain("function"), None, False,
            {"functions": names},
        )  # fmt: skip

    def label_model(self) -> Repair:
        return Repair(
            "function", "See in `fm label report` why, and mend labeling functions it names",
            f"The votes stayed as they were; {shown(self.cause.value)} weighs them now. Gold rows "
            "of dev, and functions that agree less by chance, decide which model is used.",
            self.days, ("weak_labels", "cleaned"), (), self._gain("function"), None, False,
        )  # fmt: skip

    def upstream(self) -> Repair:
        column = self.cause.name if self.cause.kind in ("value", "range", "nulls") else "rows"
        return Repair(
            "fix_upstream", f"Ask who delivers {self.where} about `{shown(column)}`",
            f"It has been so since {self.days[0]}; the days are built again once it is put right.",
            self.days, DATA_STAGES, (), self._gain("fix_upstream"), None, False,
            {"column": column, "value": self.cause.value, "sources": list(self.cause.slices)},
        )  # fmt: skip

    def backfill_raw(self) -> Repair:
        return Repair(
            "backfill", f"Bring in {self._span()} again",
            "Rows that came late are in the source by now, perhaps.", self.days, DATA_STAGES, (),
            self._gain("backfill"), self._daily(), True,
        )  # fmt: skip

    def clean(self) -> Repair:
        return Repair(
            "backfill", f"Clean {self._span()} again with the rule `exact_duplicates`",
            "One text should be learned from once.", self.days, ("cleaned",), (),
            self._gain("backfill"), self._daily(), True, {"rule": "exact_duplicates"},
        )  # fmt: skip

    def accept(self) -> Repair:
        return Repair(
            "accept", "Accept this as the new normal",
            "Nothing is changed; the same shift is silent from now on.", (), (), (), 0.0, 0.0,
            False, {"cause": self.cause.key},
        )  # fmt: skip

    def _span(self) -> str:
        return self.days[0] if len(self.days) == 1 else f"{self.days[0]} to {self.days[-1]}"
