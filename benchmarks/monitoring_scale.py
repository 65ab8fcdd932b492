"""A day of a million rows: what all checks cost, and what Evidently's preset does."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.monitoring_peers import evidently
from fm_platform.monitoring import Watch, measure_day


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
