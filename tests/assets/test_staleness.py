from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from assets import staleness
from assets.definitions import shared_definitions
from assets.instance import execute, open_instance
from assets.keys import DAILY_STAGES, MODEL_STAGES, UP_TO_DATE, WATCH, keys_of_stages, stage_key
from assets.project import project_definitions
from assets.resources import WorkspaceResource
from fm_platform.errors import SourceUnavailableError
from fm_platform.home import Home
from fm_platform.lineage.status import StatusRow
from fm_platform.spec.load import LoadedProject
from tests.assets.conftest import FakeStages

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
def watched(project: LoadedProject, tmp_path: Path) -> dg.Definitions:
    resources = {"workspace": WorkspaceResource(home=str(tmp_path / "home"))}
    return dg.Definitions.merge(
        project_definitions(project),
        dg.Definitions(resources=resources, executor=dg.in_process_executor),
    )


@pytest.fixture
def look(
    watched: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[StatusRow], str], dict[str, dg.AssetCheckEvaluation]]:
    def run(rows: list[StatusRow], problem: str) -> dict[str, dg.AssetCheckEvaluation]:
        monkeypatch.setattr(staleness, "_status", lambda *_: (rows, problem))
        result = watched.resolve_job_def("shop_up_to_date").execute_in_process()
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
    watched: dg.Definitions, project: LoadedProject, stages: FakeStages
) -> None:
    watch = {stage_key(project.spec, WATCH)}
    for name, part, more in (
        ("shop_daily", DAILY_STAGES, watch), ("shop_model", MODEL_STAGES, set()),
    ):  # fmt: skip
        keys = set(keys_of_stages(project.spec, part)) | more
        layer = watched.resolve_job_def(name).asset_layer
        assert layer.executable_asset_keys == keys
        assert UP_TO_DATE not in {key.name for key in layer.asset_graph.asset_check_keys}
    job = watched.resolve_job_def("shop_daily")
    result = job.execute_in_process(partition_key="2024-01-01")
    names = {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}
    assert "contract" in names
    assert UP_TO_DATE not in names


def test_a_run_of_some_assets_runs_their_own_checks_only(
    project: LoadedProject, tmp_path: Path, stages: FakeStages
) -> None:
    definitions = dg.Definitions.merge(
        project_definitions(project, watched=False), shared_definitions()
    )
    with open_instance(Home(tmp_path / "home").ensure()) as instance:
        result = execute(
            instance, definitions, "shop_daily", keys=keys_of_stages(project.spec, ["raw"]),
            days=["2024-01-01"], tags={},
        )  # fmt: skip
        found = {
            event.asset_check_evaluation_data.check_name
            for event in result.all_events
            if event.event_type_value == "ASSET_CHECK_EVALUATION"
        }

    assert result.success
    assert found == {"contract", "non_empty"}
