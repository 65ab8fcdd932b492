"""What came of a training: the champion before and the new one on the same gold rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.stages import outcome as module
from fm_platform.stages.outcome import on_gold
from fm_platform.workspace import Workspace
from tests.stages.test_alerts import desk_of, ws  # noqa: F401 # a fixture


def predictions(right: dict[str, int], each: int = 40) -> pa.Table:
    """Rows of two sources on two days; of `mail` so many are right, of `chat` none."""
    rows = []
    for system, count in right.items():
        for source in ("mail", "chat"):
            for i in range(each):
                gold = "ab"[i % 2]
                other = "ab"[1 - i % 2]
                label = gold if source == "mail" and i < count else other
                rows.append(
                    {
                        "row_id": f"{source}{i:03d}", "source": source, "system": system,
                        "day": f"2026-01-0{1 + i % 2}", "gold": gold, "label": label,
                        "probabilities": [0.9, 0.1] if label == "a" else [0.1, 0.9],
                    }
                )  # fmt: skip
    return pa.Table.from_pylist(rows)


def test_both_champions_are_measured_on_the_gold_rows_of_what_came(
    ws: Workspace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = desk_of(ws)
    recipe = Recipe("shop", "evaluation", "evaluation", None, (), "c", {}, "e", 0)
    version = ws.ledger.record(recipe, Produced("h", {}), RunContext(), now(), now())
    table = predictions({"champion": 20, "merged_model": 36})
    monkeypatch.setattr(module.tables, "read", lambda *_: table)

    score = on_gold(desk, version, ("mail",), "2026-01-01")

    assert score is not None
    assert (score.method, score.slices, score.rows) == ("gold", ("mail",), 40)
    assert (score.before.value, score.after.value) == pytest.approx((0.5, 0.9), abs=0.02)
    assert score.change.low > 0
