"""Going on from yesterday's adapter against training in full every day.

    python -m benchmarks.continuing [--quick] [--json] [--days 10] [--rows 400] [--test 2000]
                                    [--home FM_HOME]

Real sentences of three shipped corpora arrive in equal days, each with the class of its human
rating as target. One side trains everything again every day; the other goes on from the adapter
of the day before with the new rows and as many of the reservoir. Both begin with the same full
training of the first day. Processor time of the days after the first and macro-F1 on the same
test rows at the end are shown; both sides use one thread. Then the reservoir alone is kept over
100 days; what the same new day costs on the 10th and on the 100th is measured in turns, so that
what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.training import CLASSES, MAX_TOKENS, data, macro_f1, settings
from fm_platform.home import Home
from fm_platform.numerics import reproducible
from fm_platform.sources import corpora
from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.reservoir import replayed, updated

RESERVOIR = 60  # rows of each source and class
TURNS = 40


def daily(archive: Path, days: int, rows: int, tests: int) -> tuple[list[pa.Table], pa.Table]:
    """Return the rows of each day, and the test rows."""
    table = data(archive, days * rows + tests, 0)
    labels = [CLASSES[row.index(max(row))] for row in table["probabilities"].to_pylist()]
    table = table.append_column("label", pa.array(labels))
    table = table.append_column("split", pa.array(["train"] * table.num_rows))
    return [table.slice(i * rows, rows) for i in range(days)], table.slice(days * rows)


def trained(base: BaseModel, rows: pa.Table, folder: Path, parent: Path | None) -> Path:
    """Train from the start, or go on from `parent`; return the adapter."""
    from fm_platform.training.variants import fit_start_as, train_expert_as

    config = settings(
        0, probe_epochs=15, start_rows_per_source=10**9, max_rows=10**9, learning_rate=2e-3,
        expert_learning_rate=1e-3,
    )  # fmt: skip
    nothing = rows.slice(0, 0)
    if parent is None:
        return fit_start_as(rows, nothing, base, config, CLASSES, folder).directory
    return train_expert_as(rows, nothing, base, parent, config, CLASSES, folder).directory


def score(base: BaseModel, adapter: Path, test: pa.Table) -> float:
    """Return macro-F1 on the test rows."""
    from fm_platform.training.predict import load_adapter, predict_probabilities

    told = predict_probabilities(
        load_adapter(base, adapter), test["text"].to_pylist(), max_tokens=MAX_TOKENS
    )
    truth = np.array([CLASSES.index(label) for label in test["label"].to_pylist()])
    return macro_f1(truth, told.argmax(axis=1))


def history(base: BaseModel, days: list[pa.Table], test: pa.Table, folder: Path) -> dict[str, Any]:
    """Return seconds of each day and the scores of both sides."""
    with reproducible(1):
        full = going_on = trained(base, days[0], folder / "first", None)
        held = updated(None, days[0], RESERVOIR, 0)
        costs: dict[str, list[float]] = {"full": [], "going on": []}
        for i in range(1, len(days)):
            before = time.process_time()
            everything = pa.concat_tables(days[: i + 1])
            full = trained(base, everything, folder / f"full{i}", None)
            costs["full"].append(time.process_time() - before)
            before = time.process_time()
            new = days[i]
            old = replayed(held, new.num_rows, set(new["source"].to_pylist()), new, str(i))
            held = updated(held, new, RESERVOIR, 0)
            rows = pa.concat_tables([new, old])
            going_on = trained(base, rows, folder / f"on{i}", going_on)
            costs["going on"].append(time.process_time() - before)
        return {
            "seconds": costs,
            "macro_f1": {
                "first day only": score(base, folder / "first" / "adapter", test),
                "full": score(base, full, test), "going on": score(base, going_on, test),
            },
        }  # fmt: skip


def reservoir_costs(day: pa.Table, days: int = 100) -> dict[str, float]:
    """Return the milliseconds that keeping the reservoir costs on the 10th and the last day."""

    def arriving(i: int) -> pa.Table:
        ids = pa.array([f"{i}-{row}" for row in day["row_id"].to_pylist()])
        return day.set_column(day.schema.get_field_index("row_id"), "row_id", ids)

    names = ("day 10", f"day {days}")
    held: pa.Table | None = None
    kept: dict[str, pa.Table | None] = {}
    for i in range(days - 1):
        if i == 9:
            kept[names[0]] = held
        held = updated(held, arriving(i), RESERVOIR, 0)
    kept[names[1]] = held
    costs: dict[str, list[float]] = {name: [] for name in names}
    new = arriving(days)
    for turn in range(TURNS):
        for name in names if turn % 2 else names[::-1]:
            before = time.process_time()
            updated(kept[name], new, RESERVOIR, 0)
            costs[name].append(1000 * (time.process_time() - before))
    return {name: float(np.median(costs[name])) for name in names}


def run(base: BaseModel, archive: Path, days: int, rows: int, tests: int) -> dict[str, Any]:
    """Return everything that is measured."""
    arriving, test = daily(archive, days, rows, tests)
    with tempfile.TemporaryDirectory() as name:
        found = history(base, arriving, test, Path(name))
    wide = pa.concat_tables([arriving[0]] * max(1, 2000 // rows))
    return {**found, "reservoir_ms": reservoir_costs(wide)}


def table_of(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    full, on = (float(np.sum(found["seconds"][side])) for side in ("full", "going on"))
    last, tenth = found["seconds"]["going on"][-1], found["seconds"]["going on"][0]
    scores = found["macro_f1"]
    lines = [f"{'':<16} {'cpu s':>8} {'macro-F1':>9}"]
    lines.append(f"{'first day only':<16} {'':>8} {scores['first day only']:9.3f}")
    lines.append(f"{'full every day':<16} {full:8.1f} {scores['full']:9.3f}")
    lines.append(f"{'going on':<16} {on:8.1f} {scores['going on']:9.3f}")
    lines.append(f"going on costs {100 * on / full:.0f}% of training in full")
    lines.append(f"its last day costs {last / tenth:.2f} times its first")
    kept = found["reservoir_ms"]
    tenth, hundredth = kept.values()
    lines.append("the reservoir: " + ", ".join(f"{k} {v:.1f} ms" for k, v in kept.items())
                 + f": {hundredth / tenth:.2f} times")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 days of 40 rows")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rows", type=int, default=400, help="of a day")
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--home", type=Path, help="where the corpora are cached")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    archive = corpora.fetch(Home(asked.home or Path(".fm")).cache)
    base = resolve_base_model(BaseModelSpec(), Path.cwd())
    sizes = (4, 40, 300) if asked.quick else (asked.days, asked.rows, asked.test)
    found = run(base, archive, *sizes)
    print(json.dumps(found, indent=1) if asked.json else table_of(found))


if __name__ == "__main__":
    main()
