from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from assets import staleness
from assets.keys import STAGES, UP_TO_DATE, keys_of_stages
from fm_platform.errors import SourceUnavailableError
from fm_platform.lineage.status import StatusRow
from fm_platform.spec.load import LoadedProject

ROWS = [
    StatusRow("raw", "raw", "2024-01-01", "fresh"),
    StatusRow("raw", "raw", "2024-01-02", "stale", "source mail 2024-01-02 changed"),
    StatusRow("votes", "thanks", "2024-01-01", "stale", "labeling function thanks changed"),
    StatusRow("weak_labels", "weak_labels", "2024-01-01", "unbuilt", "never built"),
    StatusRow("cleaned", "cleaned", "2024-01-01", "fresh"),
    StatusRow("start", "shared_start", None, "fresh"),
    StatusRow("adapter", "mail", None, "stale", "its code changed \x1b[31m"),
    StatusRow("adapter", "chat", None, "fresh"),
    StatusRow("merged_model", "merged_model", None, "fresh"),
    StatusRow("evaluation", "evaluation", None, "fresh"),
]


@pytest.fixture
def look(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[StatusRow], str], dict[str, dg.AssetCheckEvaluation]]:
    def run(rows: list[StatusRow], problem: str) -> dict[str, dg.AssetCheckEvaluation]:
        monkeypatch.setattr(staleness, "_status", lambda *_: (rows, problem))
        result = definitions.resolve_job_def("shop_up_to_date").execute_in_process()
        assert result.success
        found = result.get_asset_check_evaluations()
        return {"/".join(evaluation.asset_key.path[1:]): evaluation for evaluation in found}

    return run


def test_every_asset_is_told_of_with_its_cause(look: Callable[..., dict[str, object]]) -> None:
    found = look(ROWS, "")

    assert {name: e.passed for name, e in found.items()} == {  # type: ignore[attr-defined]
        "raw": False, "weak_labels": False, "cleaned": True, "shared_start": True,
        "adapters/mail": False, "adapters/chat": True, "merged_model": True, "evaluation": True,
    }  # fmt: skip
    words = {name: str(e.description) for name, e in found.items()}  # type: ignore[attr-defined]
    assert words["raw"] == (
        "1 of 2 artifacts are not what is wanted now; raw 2024-01-02 is stale: "
        "source mail 2024-01-02 changed"
    )
    assert words["weak_labels"].startswith("2 of 2 artifacts")
    assert "\x1b" not in words["adapters/mail"]
    severities = {e.severity for e in found.values()}  # type: ignore[attr-defined]
    assert severities == {dg.AssetCheckSeverity.WARN}


def test_what_cannot_be_told_is_not_a_pass(look: Callable[..., dict[str, object]]) -> None:
    found = look([], "the source is away")

    assert not any(e.passed for e in found.values())  # type: ignore[attr-defined]
    assert all("cannot be told: the source is away" in str(e.description)  # type: ignore[attr-defined]
               for e in found.values())  # fmt: skip


def test_a_source_that_is_away_is_told_not_raised(
    project: LoadedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Resource:
        def open(self) -> object:
            raise SourceUnavailableError("no file matches", found="mail.csv")

    rows, problem = staleness._status(project, Resource())  # type: ignore[arg-type]

    assert rows == []
    assert problem.startswith("no file matches")


def test_builds_do_not_look_for_staleness(
    definitions: dg.Definitions, project: LoadedProject
) -> None:
    for name in ("shop_daily", "shop_model"):
        checks = definitions.resolve_job_def(name).asset_layer.executable_asset_keys
        selected = definitions.resolve_job_def(name).asset_layer.asset_graph
        assert checks
        names = {key.name for key in selected.asset_check_keys}
        assert UP_TO_DATE not in names
    assert len(keys_of_stages(project.spec, STAGES)) == 8
