from __future__ import annotations

from pathlib import Path

from benchmarks.ledgers import PROJECT, History
from benchmarks.lineage import BOUND, in_python, measure, table
from fm_platform.lineage.graph import graph_at, upstream


def test_questions_are_answered_the_same_way_as_the_plain_way(tmp_path: Path) -> None:
    history = History(300).build()
    ledger = history.write(f"sqlite:///{tmp_path / 'ledger.db'}")
    merged = history.current["merged_model", "merged_model", ""]["version_id"]

    found = list(measure("sqlite", ledger, history))

    assert len(upstream(ledger, [merged])) == in_python(ledger, merged)
    assert set(BOUND) <= {m.question for m in found}
    assert all(m.answer > 0 for m in found)
    assert all(question in table(found) for question in BOUND)
    stale = [n for n in graph_at(ledger, PROJECT).nodes if n.state == "stale"]
    day = history.days[-2]
    assert {n.kind for n in stale} >= {"votes", "cleaned", "evaluation"}
    assert all(n.why.endswith(f"raw {day} changed") for n in stale)
