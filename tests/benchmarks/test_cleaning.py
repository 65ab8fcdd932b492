from __future__ import annotations

import pytest

from benchmarks.cleaning import days, throughput
from benchmarks.documents import true_pairs, word_runs

pytest.importorskip("datasketch")
pytest.importorskip("rensa")


def test_the_benchmark_of_duplicates_runs() -> None:
    texts = [" ".join(f"w{i}x{k}" for k in range(20)) for i in range(30)]
    texts += [f"{text} end" for text in texts[:10]]

    told = throughput(texts, 20)

    assert told["true pairs"] == 10 == len(true_pairs([word_runs(t) for t in texts], 0.7))
    assert told["systems"]["ours"]["recall"] == told["systems"]["ours"]["precision"] == 1.0
    assert len(days(texts, 4, 2)) == 4
