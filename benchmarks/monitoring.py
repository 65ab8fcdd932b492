"""Planted shifts: who sees them, how soon, what is named as the cause, and what it costs.

    python -m benchmarks.monitoring [--quick] [--json] [--seeds N] [--no-evidently] [--scale ROWS]

Ours, Evidently's DataDriftPreset and a comparison in the manner of TFDV (L-infinity of categories,
Jensen-Shannon of numbers, share of missing values) look at the same days of shipped text with made
columns (`benchmarks.monitoring_world`); it needs a finished `make demo`. Evidently is asked twice:
by its own rule (half of the columns drifted) and as soon as any column drifted. The thresholds of
ours are those of the product; they were chosen on seeds below 100, the benchmark begins there.
`--scale` measures a day of so many rows and 20 columns instead.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import monitoring_world as world
from benchmarks.monitoring_peers import evidently, tfdv_like
from benchmarks.monitoring_scale import scale
from fm_platform.monitoring import (
    Alert,
    Evidence,
    Judging,
    Profile,
    Watch,
    alerts_of,
    answers,
    detect,
    join,
    measure_day,
    measured,
    past_of,
    reference_of,
    with_embeddings,
)

FIRST_SEED = 100
SIZES = {"small": 300, "medium": 1_000, "large": 3_000}
REFERENCE_DAYS, QUIET_DAYS, SHIFT_DAYS, FURTHER_DAYS = 14, 4, 3, 4
"""Further days tell what a shift costs on average; one day has luck of its own."""
LABEL_CAUSES = ("value", "range", "nulls", "function")
"""What these cost is paid by the next model, in its labels."""


class Bench:
    """One seed and size: reference, live model, and what each system says of a day."""

    def __init__(self, pool: world.Pool, seed: int, size: int) -> None:
        self.pool, self.seed = pool, seed
        self.sizes = {"movies": size // 2, "nyt": size // 4, "tweets": size // 4}
        self.days = [self.rows(i) for i in range(REFERENCE_DAYS)]
        self.labeler = world.fit_labels(self.days)
        self.weak = [self.label(day) for day in self.days]
        self.probe = world.fit_probe(self.days, self.weak)
        self.watch = Watch(world.COLUMNS, world.CLASSES, world.functions(pool))
        made = [self.profile(day, weak) for day, weak in zip(self.days, self.weak, strict=True)]
        self.reference = reference_of("m", "probe", [profile for profile, _ in made])
        self.past = past_of(self.reference)
        tables = pa.concat_tables([table for _, table in made])
        chosen = np.random.default_rng(seed).choice(
            tables.num_rows, min(2_000, tables.num_rows), False
        )
        self.known = frame(tables.take(pa.array(np.sort(chosen))))

    def rows(self, i: int) -> world.Rows:
        """Draw the i-th day."""
        generator = np.random.default_rng([self.seed, i])
        return world.draw(self.pool, generator, self.sizes, world.day_name(i))

    def label(self, rows: world.Rows) -> Any:
        """Return the label model's probabilities of the rows of a day."""
        if not len(rows.text):
            return np.zeros((0, 3), np.float32)
        return self.labeler.predict(world.votes_of(rows), rows.source.tolist())

    def profile(self, rows: world.Rows, weak: Any) -> tuple[Profile, pa.Table]:
        """Return the profile of a day with the live model's answers, and its rows."""
        table = world.to_table(rows, weak, self.seed)
        made = measure_day("bench", rows.dated, table, self.watch)
        if made.sample is None or not made.sample.num_rows:
            return made, table
        spots = {row: i for i, row in enumerate(table["row_id"].to_pylist())}
        vectors = rows.vectors[[spots[row] for row in made.sample["row_id"].to_pylist()]]
        told = self.probe.predict_proba(vectors)
        made = with_embeddings(made, vectors.astype(np.float32))
        assert made.sample is not None
        column = pa.array(list(told.astype(np.float32)), pa.list_(pa.float32()))
        joined = join(made, answers(made.sample, told, world.CLASSES))
        return replace(joined, sample=made.sample.append_column("champion", column)), table

    def ours(self, rows: world.Rows) -> tuple[list[Alert], pa.Table]:
        """Return the alerts of a day, and its rows."""
        profile, table = self.profile(rows, self.label(rows))
        found = detect(measured(profile, self.reference), self.past, self.reference)
        evidence = Evidence(profile, self.reference, table, self.watch, dict(world.READS))
        return alerts_of(found, evidence, Judging(labeler=self.labeler.predict)), table

    def scores(self, rows: world.Rows) -> tuple[float, float]:
        """Right answers of the live model, and right weak labels, in points."""
        if not len(rows.text):
            return float("nan"), float("nan")
        right = self.probe.predict(rows.vectors) == rows.gold
        return 100 * float(right.mean()), 100 * float(
            (self.label(rows).argmax(1) == rows.gold).mean()
        )

    def retrained(self, rows: world.Rows) -> Any:
        """The live model after training with the rows that came, too."""
        return world.fit_probe([*self.days, rows], [*self.weak, self.label(rows)], most=100_000)


def frame(table: pa.Table) -> Any:
    """The columns that all systems look at, as Evidently takes them."""
    import pyarrow.compute as pc

    table = table.append_column("chars", pc.utf8_length(table["text"]).cast(pa.float64()))
    return table.select([*world.COLUMNS, "source", "chars", "label", "confidence"]).to_pandas()


@dataclass
class Case:
    """One planted shift, and what was said of it."""

    shift: str
    size: str
    seed: int
    cost: float
    change: tuple[float, float]
    detected: int | None = None
    sent: int | None = None
    top: bool = False
    alerts: int = 0
    impact: float | None = None
    impact_error: float | None = None
    impact_error_of_shift: float | None = None
    luck: float | None = None
    held: bool | None = None
    blind_error: float | None = None
    worst: float = 0.0
    repaired: bool | None = None
    others: dict[str, Any] = field(default_factory=dict)


def run_case(bench: Bench, planted: world.Planted, size: str, peers: bool) -> Case:
    """Plant a shift in three days running and ask all systems, day by day."""
    generator = np.random.default_rng([bench.seed, 7])
    plain = [bench.rows(REFERENCE_DAYS + QUIET_DAYS + i) for i in range(SHIFT_DAYS)]
    shifted = [planted.shift(bench.pool, rows, generator, 1.0) for rows in plain]
    before, after = bench.scores(plain[0]), bench.scores(shifted[0])
    usual = np.mean([bench.scores(day) for day in bench.days], axis=0)
    cost = (
        max(0.0, *(b - a for b, a in zip(before, after, strict=True)))
        if len(shifted[0].text)
        else 0.0
    )
    change = tuple(float(a - u) for a, u in zip(after, usual, strict=True))
    case = Case(planted.name, size, bench.seed, cost, (change[0], change[1]))
    for number, rows in enumerate(shifted, 1):
        alerts, table = bench.ours(rows)
        if alerts and case.detected is None:
            case.detected = number
            first = alerts[0]
            case.alerts, case.worst = len(alerts), first.impact.worst
            case.top = first.cause.name in planted.names or first.cause.kind in planted.kinds
            _impact(case, first, _further(bench, planted, generator) - usual)
            case.repaired = _repaired(bench, first, plain[-1], rows, shifted[-1])
        if any(alert.sends for alert in alerts):
            case.sent = number
        if number == 1 and peers:
            case.others = _peers(bench, table, planted)
        if case.sent is not None:
            break
    return case


def _further(bench: Bench, planted: world.Planted, generator: np.random.Generator) -> Any:
    """Return both scores on further days of the same shift, on average, float64[2]."""
    first = REFERENCE_DAYS + QUIET_DAYS + SHIFT_DAYS
    days = [bench.rows(first + i) for i in range(FURTHER_DAYS)]
    return np.mean(
        [bench.scores(planted.shift(bench.pool, rows, generator, 1.0)) for rows in days], axis=0
    )


def _impact(case: Case, alert: Alert, shift: Any) -> None:
    """Compare the estimate with what was measured on all gold of the day, and of further days."""
    labels = alert.cause.kind in LABEL_CAUSES
    truth = case.change[1] if labels else case.change[0]
    told = alert.impact.labels if labels else alert.impact.change
    if told is None or not np.isfinite(truth) or alert.cause.kind in ("volume", "source_gone"):
        return
    case.impact = told.points
    case.impact_error = abs(told.points - truth)
    case.impact_error_of_shift = abs(told.points - float(shift[1 if labels else 0]))
    case.luck = abs(truth - float(shift[1 if labels else 0]))
    case.held = bool(told.low <= truth <= told.high)
    blind = [one.points for one in alert.impact.estimates if one.method != "gold"]
    if not labels and blind:
        case.blind_error = abs(float(np.mean(blind)) - truth)


def _repaired(
    bench: Bench, alert: Alert, plain: world.Rows, came: world.Rows, later: world.Rows
) -> bool | None:
    """Train with the day that came, where that is the repair, and look at a later day."""
    if alert.repairs[0].kind not in ("retrain", "add_expert") or not len(later.text):
        return None
    usual, now = bench.scores(plain)[0], bench.scores(later)[0]
    if usual - now < 2:
        return None
    again = 100 * float((bench.retrained(came).predict(later.vectors) == later.gold).mean())
    return again - now >= 0.5 * (usual - now)


def _peers(bench: Bench, table: pa.Table, planted: world.Planted) -> dict[str, Any]:
    if not table.num_rows:
        return {
            "evidently": (False, False),
            "evidently_any": (False, False),
            "tfdv": (False, False),
        }
    now = frame(table)
    names = {"amazon": "source", "movies": "source", "label": "label"}
    wanted = {names.get(name, name) for name in planted.names}
    whole, some, top = evidently(bench.known, now)
    other, most = tfdv_like(bench.known, now)
    return {
        "evidently": (whole, top in wanted), "evidently_any": (some, top in wanted),
        "tfdv": (other, most in wanted),
    }  # fmt: skip


def quiet(bench: Bench, peers: bool) -> dict[str, int]:
    """Count what is said on days on which nothing happened."""
    told = {"days": 0, "ours": 0, "ours_found": 0, "evidently": 0, "evidently_any": 0, "tfdv": 0}
    for i in range(QUIET_DAYS):
        alerts, table = bench.ours(bench.rows(REFERENCE_DAYS + i))
        told["days"] += 1
        told["ours"] += any(alert.sends for alert in alerts)
        told["ours_found"] += bool(alerts)
        if peers:
            whole, some, _ = evidently(bench.known, frame(table))
            told["evidently"] += whole
            told["evidently_any"] += some
            told["tfdv"] += tfdv_like(bench.known, frame(table))[0]
    return told


def benches(pool: world.Pool, seeds: int, sizes: list[str]) -> Iterator[tuple[str, Bench]]:
    for size in sizes:
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            yield size, Bench(pool, seed, SIZES[size])


def report(cases: list[Case], silent: dict[str, int], peers: bool) -> dict[str, Any]:
    """Sum up all cases."""
    from scipy.stats import spearmanr

    def share(values: list[bool]) -> float | None:
        return round(float(np.mean(values)), 3) if values else None

    costly = [case for case in cases if case.cost >= 2]
    errors = [c.impact_error for c in cases if c.impact_error is not None]
    blind = [c.blind_error for c in cases if c.blind_error is not None]
    ranks = []
    for key in sorted({(case.size, case.seed) for case in cases}):
        own = [c for c in cases if (c.size, c.seed) == key and c.shift != "late day"]
        ranks.append(float(spearmanr([c.worst for c in own], [c.cost for c in own])[0]))
    per = 100 / max(silent["days"], 1)
    told: dict[str, Any] = {
        "cases": len(cases), "costly": len(costly), "quiet_days": silent["days"],
        "ours": {
            "sent_of_costly": share([c.sent is not None for c in costly]),
            "detected_of_all": share([c.detected is not None for c in cases]),
            "false_alarms_per_100_quiet_days": round(silent["ours"] * per, 2),
            "days_to_detect": round(float(np.mean([c.detected for c in cases if c.detected])), 2),
            "top_1": share([c.top for c in cases if c.detected]),
            "one_alert": share([c.alerts == 1 for c in cases if c.detected]),
            "impact_error_median": round(float(np.median(errors)), 2) if errors else None,
            "impact_within_2": share([e <= 2 for e in errors]),
            "impact_within_2_of_the_shift": share(
                [e <= 2 for c in cases if (e := c.impact_error_of_shift) is not None]
            ),
            "one_day_within_2_of_the_shift": share(
                [c.luck <= 2 for c in cases if c.luck is not None]
            ),
            "impact_interval_holds": share([c.held for c in cases if c.held is not None]),
            "impact_within_2_by_size": {
                size: share(
                    [e <= 2 for c in cases if c.size == size and (e := c.impact_error) is not None]
                )
                for size in SIZES
            },
            "without_gold_error_median": round(float(np.median(blind)), 2) if blind else None,
            "without_gold_within_2": share([e <= 2 for e in blind]),
            "spearman_severity_loss": round(float(np.nanmean(ranks)), 3),
            "retraining_repaired": share([c.repaired for c in cases if c.repaired is not None]),
            "unimportant_sent": share(
                [c.sent is not None for c in cases if c.shift.endswith("unused")]
            ),
        },
        "by_shift": {
            name: {
                "cost": round(float(np.mean([c.cost for c in own])), 1),
                "detected": share([c.detected is not None for c in own]),
                "sent": share([c.sent is not None for c in own]),
                "top_1": share([c.top for c in own if c.detected]),
                "impact_error": round(float(np.mean(found)), 1) if (
                    found := [c.impact_error for c in own if c.impact_error is not None]
                ) else None,
            }
            for name in dict.fromkeys(c.shift for c in cases)
            if (own := [c for c in cases if c.shift == name])
        },
    }  # fmt: skip
    if peers:
        for name in ("evidently", "evidently_any", "tfdv"):
            told[name] = {
                "detected_of_costly": share([c.others[name][0] for c in costly]),
                "false_alarms_per_100_quiet_days": round(silent[name] * per, 1),
                "top_1": share([c.others[name][1] for c in cases]),
            }
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds of the medium size")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--no-evidently", action="store_true")
    parser.add_argument("--scale", type=int, default=0)
    options = parser.parse_args()
    if options.scale:
        told = scale(options.scale)
    else:
        sizes = ["medium"] if options.quick else list(SIZES)
        seeds = min(options.seeds, 2) if options.quick else options.seeds
        cases: list[Case] = []
        silent: dict[str, int] = {}
        for size, bench in benches(world.load_pool(), seeds, sizes):
            for name, count in quiet(bench, not options.no_evidently).items():
                silent[name] = silent.get(name, 0) + count
            for planted in world.SHIFTS:
                cases.append(run_case(bench, planted, size, not options.no_evidently))
            print(f"{size} {bench.seed}", file=sys.stderr, flush=True)
        told = report(cases, silent, not options.no_evidently)
        told["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(json.dumps(told, indent=None if options.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
