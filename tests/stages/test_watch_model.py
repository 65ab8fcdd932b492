"""What monitoring asks of models: which kind of label model weighs the votes of a source."""

from __future__ import annotations

from pathlib import Path

from fm_platform.home import Home
from fm_platform.lineage import Produced, Recipe, RunContext
from fm_platform.lineage.database import now
from fm_platform.stages.watch_model import weighed
from fm_platform.workspace import Workspace


def fitted(ws: Workspace, day: str, **chosen: str) -> None:
    evidence = [
        {"method": method, "group": group, "chosen": method == kept}
        for group, kept in chosen.items()
        for method in ("em", "majority_vote")
    ]
    recipe = Recipe("shop", "label_model", "label_model", day, (), "c", {}, "e", 0)
    made = Produced(day, {}, 1, 1, {"evidence": evidence})
    ws.ledger.record(recipe, made, RunContext(), now(), now())


def test_sources_whose_votes_are_weighed_by_another_kind_of_model_are_named(
    tmp_path: Path,
) -> None:
    ws = Workspace.open(Home(tmp_path / "home"))
    days = ["2026-01-01", "2026-01-02", "2026-01-03"]
    fitted(ws, days[0], all="em", mail="majority_vote")
    fitted(ws, days[1], all="em", mail="em")
    fitted(ws, days[2], all="em", mail="em")
    fitted(ws, "2026-01-04", all="majority_vote", mail="em")

    def found(day: str) -> dict[str, tuple[str, str]]:
        return weighed(ws, "shop", ["mail", "web"], days, day)

    assert found("2026-01-03") == {}
    assert found("2026-01-04") == {"web": ("em", "majority_vote")}
    assert found("2026-01-05") == {}
