from __future__ import annotations

from benchmarks.models import run, table


def test_the_benchmark_of_models_runs() -> None:
    told = run(2, 1, 20, lambda _text: None)

    assert told["each tensor once, bytes"] < told["each file once, bytes"]
    assert "MB" in table(told)
