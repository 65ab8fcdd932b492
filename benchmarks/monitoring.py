"""Planted shifts: who sees them, how soon, what is named as the cause, and what it costs.

    python -m benchmarks.monitoring [--quick] [--json] [--seeds N] [--sizes small,medium,large]
        [--rows 2000,...] [--peer-seeds N] [--out FILE] [--scale ROWS]

Each shift is planted in three sizes: of all the rows that it can concern it takes a quarter, a half
or all. `--rows` is how many rows a day has; what an estimate can know depends on it.
Ours, Evidently's DataDriftPreset and a comparison in the manner of TFDV (L-infinity of categories,
Jensen-Shannon of numbers, share of missing values) look at the same days of shipped text with made
columns (`benchmarks.monitoring_world`); it needs a finished `make demo`. Evidently is asked twice:
by its own rule (half of the columns drifted) and as soon as any column drifted. The thresholds of
ours are those of the product; they were chosen on seeds below 100, the benchmark begins there.
The others are asked on the first `--peer-seeds` seeds: they cost most of the time.
With `--out` each seed is written when it is done, and a second run goes on after the last one.
`--scale` measures a day of so many rows and 20 columns instead.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import monitoring_world as world
from benchmarks.monitoring_peers import evidently, tfdv_like
from benchmarks.monitoring_report import SIZES, Case, report
from benchmarks.monitoring_scale import scale
from fm_platform.monitoring import (
    ALL,
    Alert,
    Evidence,
    Judging,
    Profile,
    Watch,
    alerts_of,
    detect,
    measure_day,
    measured,
    past_of,
    reference_of,
    with_answers,
    with_embeddings,
)

FIRST_SEED = 100
REFERENCE_DAYS, QUIET_DAYS, SHIFT_DAYS, FURTHER_DAYS = 14, 4, 3, 4
"""Further days tell what a shift costs on average; one day has luck of its own."""
LABEL_CAUSES = ("value", "range", "nulls", "function")
"""What these cost is paid by the next model, in its labels."""


class Bench:
    """One seed: reference, live model, and what each system says of a day."""

    def __init__(self, pool: world.Pool, seed: int, rows: int) -> None:
        self.pool, self.seed = pool, seed
        self.sizes = {"movies": rows // 2, "nyt": rows // 4, "tweets": rows // 4}
        self.days = [self.rows(i) for i in range(REFERENCE_DAYS)]
        self.labeler = world.fit_labels(self.days)
        self.weak = [self.label(day) for day in self.days]
        self.train = [world.trained(day, seed) for day in self.days]
        self.probe = world.fit_probe(*self._trained())
        rest = [day.take(~train) for day, train in zip(self.days, self.train, strict=True)]
        self.usual = np.mean([self.scores(day) for day in rest], axis=0)
        self.usual_of = {
            name: np.mean([self.scores(day.take(day.source == name)) for day in rest], axis=0)
            for name in self.sizes
        }
        self.watch = Watch(world.COLUMNS, world.CLASSES, world.functions(pool))
        parts = zip(self.days, self.weak, self.train, strict=True)
        made = [self.profile(*part) for part in parts]
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

    def _trained(self) -> tuple[list[world.Rows], list[Any]]:
        """Return the rows that the live model is trained on, and their labels, by day."""
        return (
            [day.take(train) for day, train in zip(self.days, self.train, strict=True)],
            [weak[train] for weak, train in zip(self.weak, self.train, strict=True)],
        )

    def profile(
        self, rows: world.Rows, weak: Any, train: Any | None = None
    ) -> tuple[Profile, pa.Table]:
        """Return the profile of a day with the live model's answers, and its rows."""
        table = world.to_table(rows, weak, self.seed, train)
        made = measure_day("bench", rows.dated, table, self.watch)
        if made.sample is None or not made.sample.num_rows:
            return made, table
        spots = {row: i for i, row in enumerate(table["row_id"].to_pylist())}
        vectors = rows.vectors[[spots[row] for row in made.sample["row_id"].to_pylist()]]
        made = with_embeddings(made, vectors.astype(np.float32))
        asked = [
            one and one.append_column("champion", self._answers(rows, one, spots))
            for one in (made.sample, made.judged)
        ]
        return with_answers(replace(made, sample=asked[0], judged=asked[1])), table

    def _answers(self, rows: world.Rows, asked: pa.Table, spots: dict[str, int]) -> pa.Array:
        vectors = rows.vectors[[spots[row] for row in asked["row_id"].to_pylist()]]
        told = world.told_by(self.probe, vectors)
        return pa.array(list(told.astype(np.float32)), pa.list_(pa.float32()))

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
        days, labels = self._trained()
        return world.fit_probe([*days, rows], [*labels, self.label(rows)], most=100_000)


def frame(table: pa.Table) -> Any:
    """The columns that all systems look at, as Evidently takes them."""
    import pyarrow.compute as pc

    table = table.append_column("chars", pc.utf8_length(table["text"]).cast(pa.float64()))
    return table.select([*world.COLUMNS, "source", "chars", "label", "confidence"]).to_pandas()


def run_case(bench: Bench, planted: world.Planted, size: str, peers: bool) -> Case:
    """Plant a shift in three days running and ask all systems, day by day."""
    part = SIZES[size]
    generator = np.random.default_rng([bench.seed, 7])
    plain = [bench.rows(REFERENCE_DAYS + QUIET_DAYS + i) for i in range(SHIFT_DAYS)]
    shifted = [planted.shift(bench.pool, rows, generator, part) for rows in plain]
    before, after = bench.scores(plain[0]), bench.scores(shifted[0])
    usual = bench.usual
    cost = (
        max(0.0, *(b - a for b, a in zip(before, after, strict=True)))
        if len(shifted[0].text)
        else 0.0
    )
    change = tuple(float(a - u) for a, u in zip(after, usual, strict=True))
    rows_a_day = sum(bench.sizes.values())
    case = Case(planted.name, size, rows_a_day, bench.seed, cost, (change[0], change[1]))
    for number, rows in enumerate(shifted, 1):
        alerts, table = bench.ours(rows)
        if alerts and case.detected is None:
            case.detected = number
            first = alerts[0]
            case.alerts, case.worst = len(alerts), first.impact.worst
            case.top = first.cause.name in planted.names or first.cause.kind in planted.kinds
            shift = _further(bench, planted, part, generator) - usual
            _impact(case, first, shift, _luck_of_others(bench, first, rows))
            case.repaired = _repaired(bench, first, plain[-1], rows, shifted[-1])
        if any(alert.sends for alert in alerts):
            case.sent = number
        if number == 1 and peers:
            case.others = _peers(bench, table, planted)
        if case.sent is not None:
            break
    return case


def _further(
    bench: Bench, planted: world.Planted, part: float, generator: np.random.Generator
) -> Any:
    """Return both scores on further days of the same shift, on average, float64[2]."""
    first = REFERENCE_DAYS + QUIET_DAYS + SHIFT_DAYS
    days = [bench.rows(first + i) for i in range(FURTHER_DAYS)]
    return np.mean(
        [bench.scores(planted.shift(bench.pool, rows, generator, part)) for rows in days], axis=0
    )


def _luck_of_others(bench: Bench, alert: Alert, rows: world.Rows) -> Any:
    """Return what the rows that an alert is not about changed the scores of the day by."""
    slices, total = alert.cause.slices, np.zeros(2)
    for name, usual in bench.usual_of.items():
        inside = rows.source == name
        if inside.any() and name not in slices and ALL not in slices:
            total += inside.mean() * (np.array(bench.scores(rows.take(inside))) - usual)
    return total


def _impact(case: Case, alert: Alert, shift: Any, others: Any) -> None:
    """Compare the estimate with what was measured on all gold of the day, and of further days."""
    labels = alert.cause.kind in LABEL_CAUSES
    truth = case.change[1] if labels else case.change[0]
    told = alert.impact.labels if labels else alert.impact.change
    if told is None or not np.isfinite(truth) or alert.cause.kind in ("volume", "source_gone"):
        return
    case.impact, case.labels = told.points, labels
    case.impact_error = abs(told.points - truth)
    case.impact_error_of_shift = abs(told.points - float(shift[1 if labels else 0]))
    case.impact_error_of_rows = abs(told.points - (truth - float(others[1 if labels else 0])))
    case.luck = abs(truth - float(shift[1 if labels else 0]))
    case.held = bool(told.low <= truth <= told.high)
    case.reach = (told.high - told.low) / 2
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
    names = ("days", "ours", "ours_found", "others_days", "evidently", "evidently_any", "tfdv")
    told = dict.fromkeys(names, 0)
    for i in range(QUIET_DAYS):
        alerts, table = bench.ours(bench.rows(REFERENCE_DAYS + i))
        told["days"] += 1
        told["ours"] += any(alert.sends for alert in alerts)
        told["ours_found"] += bool(alerts)
        if peers:
            told["others_days"] += 1
            whole, some, _ = evidently(bench.known, frame(table))
            told["evidently"] += whole
            told["evidently_any"] += some
            told["tfdv"] += tfdv_like(bench.known, frame(table))[0]
    return told


def one_seed(
    pool: world.Pool, seed: int, rows: int, sizes: list[str], peers: bool
) -> dict[str, Any]:
    """Return all cases of one seed, and what was said on its quiet days, as JSON."""
    bench = Bench(pool, seed, rows)
    silent = quiet(bench, peers)
    cases = [run_case(bench, planted, size, peers) for size in sizes for planted in world.SHIFTS]
    return {"rows": rows, "seed": seed, "quiet": silent, "cases": [asdict(case) for case in cases]}


def all_seeds(
    seeds: range, rows: list[int], sizes: list[str], peer_seeds: int, out: Path | None
) -> list[dict[str, Any]]:
    """Run what is not yet in `out`, seed by seed, and return all of it."""
    done = [json.loads(line) for line in out.read_text().splitlines()] if out and out.is_file() \
        else []  # fmt: skip
    known = {(one["rows"], one["seed"]) for one in done}
    pool = world.load_pool()
    for seed in seeds:
        for number in rows:
            if (number, seed) in known:
                continue
            one = one_seed(pool, seed, number, sizes, seed < seeds.start + peer_seeds)
            done.append(one)
            if out:
                with out.open("a") as file:
                    file.write(json.dumps(one, default=float) + "\n")
            print(f"{number} rows, seed {seed}", file=sys.stderr, flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--rows", default="2000", help="rows a day, one or more numbers")
    parser.add_argument("--peer-seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file that each seed is added to")
    parser.add_argument("--scale", type=int, default=0)
    options = parser.parse_args()
    if options.scale:
        told = scale(options.scale)
    else:
        number = min(options.seeds, 2) if options.quick else options.seeds
        seeds = range(options.first_seed, options.first_seed + number)
        rows = [int(one) for one in options.rows.split(",")]
        done = all_seeds(seeds, rows, options.sizes.split(","), options.peer_seeds, options.out)
        told = report(done)
        told["peak_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    print(json.dumps(told, indent=None if options.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
