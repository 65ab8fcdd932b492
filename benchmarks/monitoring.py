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
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import monitoring_world as world
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
REFERENCE_DAYS, QUIET_DAYS, SHIFT_DAYS = 14, 4, 3
TFDV_CATEGORIES, TFDV_NUMBERS, TFDV_MISSING = 0.1, 0.1, 0.05


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


def evidently(known: Any, now: Any) -> tuple[bool, bool, str]:
    """Return whether the data set drifted, whether any column did, and the column most so."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in known if known[name].dtype.kind == "f"]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[n for n in known if n not in numbers]
    )
    sides = [Dataset.from_pandas(side, data_definition=definition) for side in (now, known)]
    drifted: dict[str, float] = {}
    share = 0.0
    for metric in Report([DataDriftPreset()]).run(*sides).dict()["metrics"]:
        config, value = metric["config"], metric["value"]
        if "column" in config:
            by_p = "p_value" in str(config.get("method", ""))
            limit = float(config["threshold"])
            score = (limit - value) / limit if by_p else value / limit - 1
            if score > 0:
                drifted[config["column"]] = score
        elif isinstance(value, dict) and "share" in value:
            share = float(value["share"])
    top = max(sorted(drifted), key=lambda name: drifted[name], default="")
    return share >= 0.5, bool(drifted), top


def tfdv_like(known: Any, now: Any) -> tuple[bool, str]:
    """Return whether a threshold was passed, and by which column most."""
    from scipy.spatial.distance import jensenshannon

    passed: dict[str, float] = {}
    for name in known:
        before, after = known[name], now[name]
        missing = abs(after.isna().mean() - before.isna().mean()) / TFDV_MISSING
        if before.dtype.kind == "f":
            edges = np.histogram_bin_edges(np.concatenate([before.dropna(), after.dropna()]), 20)
            sides = [np.histogram(side.dropna(), edges)[0] + 1e-9 for side in (before, after)]
            score = float(jensenshannon(*sides)) ** 2 / TFDV_NUMBERS
        else:
            shares = [side.value_counts(normalize=True) for side in (before, after)]
            gap = shares[0].sub(shares[1], fill_value=0).abs()
            score = float(gap.max()) / TFDV_CATEGORIES if len(gap) else 0.0
        score = max(score, missing)
        if score > 1:
            passed[name] = score
    return bool(passed), max(sorted(passed), key=lambda name: passed[name], default="")


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
            _impact(case, first)
            case.repaired = _repaired(bench, first, plain[-1], rows, shifted[-1])
        if any(alert.sends for alert in alerts):
            case.sent = number
        if number == 1 and peers:
            case.others = _peers(bench, table, planted)
        if case.sent is not None:
            break
    return case


def _impact(case: Case, alert: Alert) -> None:
    """Compare the estimate with what was measured on all gold of the day."""
    labels = alert.cause.kind in ("value", "range", "nulls", "function")
    truth = case.change[1] if labels else case.change[0]
    told = alert.impact.labels if labels else alert.impact.change
    if told is None or not np.isfinite(truth) or alert.cause.kind in ("volume", "source_gone"):
        return
    case.impact = told.points
    case.impact_error = abs(told.points - truth)
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


def scale(rows: int) -> dict[str, Any]:
    """Measure a day of `rows` x 20 columns, and Evidently's preset on four of the columns."""
    from scipy.stats import ks_2samp

    from fm_platform.monitoring.sketches import NumericSketch, ks_distance, merge

    generator = np.random.default_rng(0)
    numbers = {f"n{i}": generator.normal(size=rows) for i in range(12)}
    words = {f"c{i}": generator.choice(np.array(list("abcde")), rows) for i in range(7)}
    texts = np.array([f"word{i} on the way to number{i % 977} and back" for i in range(50_000)])
    table = pa.table(
        {
            "row_id": [f"{i:032x}" for i in generator.permutation(rows)],
            "source": generator.choice(np.array(["x", "y", "z"]), rows),
            **numbers, **words, "text": texts[generator.integers(0, len(texts), rows)],
        }
    )  # fmt: skip
    watch = Watch((*numbers, *words))
    started, cpu = time.perf_counter(), time.process_time()
    profile = measure_day("scale", "2026-01-01", table, watch)
    whole = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    kept = profile.to_table().nbytes / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    # the same four columns for both; the reference is the merge of two earlier days
    pair = [generator.normal(0.05, 1.02, rows) for _ in range(3)]
    known = [
        merge([NumericSketch.of(numbers[f"n{i}"]), NumericSketch.of(numbers[f"n{i + 3}"])])
        for i in range(3)
    ]
    cpu = time.process_time()
    found = []
    for i, column in enumerate(pair):
        sketch = NumericSketch.of(column)
        assert isinstance(known[i], NumericSketch)
        found.append(ks_distance(known[i], sketch))
    categories = measure_day(
        "scale", "2026-01-02", table.select(["row_id", "source", "c0"]), Watch(("c0",))
    )
    ours = time.process_time() - cpu
    exact = [
        float(ks_2samp(np.concatenate([numbers[f"n{i}"], numbers[f"n{i + 3}"]]), pair[i]).statistic)
        for i in range(3)
    ]
    import pandas as pd

    before = pd.DataFrame({f"n{i}": numbers[f"n{i}"] for i in range(3)} | {"c0": words["c0"]})
    after = pd.DataFrame({f"n{i}": pair[i] for i in range(3)} | {"c0": words["c0"]})
    evidently(before.head(100), after.head(100))  # imports are not counted
    cpu = time.process_time()
    evidently(before, after)
    theirs = time.process_time() - cpu
    assert categories.rows["all"] == rows
    return {
        "rows": rows, "columns": 20, **{k: round(v, 2) for k, v in whole.items()},
        "peak_gb": round(peak, 2), "profile_mb": round(kept, 1),
        "four_columns_cpu_s": round(ours, 3), "evidently_cpu_s": round(theirs, 2),
        "evidently_over_ours": round(theirs / ours, 1),
        "ks_error": max(abs(a - b) for a, b in zip(found, exact, strict=True)),
    }  # fmt: skip


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
