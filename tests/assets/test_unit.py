"""A run over days meets the hand-made rows first; a run that trains begins with them."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.keys import DAILY_STAGES, stage_key
from assets.project import project_definitions
from assets.resources import WorkspaceResource
from assets.unit import unit_checks
from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject
from fm_platform.workspace import Workspace
from tests.assets.conftest import FakeStages
from tests.stages.unit_world import ROWS, SPEC, write_project

DAY = "2024-01-01"


def definitions(project: LoadedProject, home: Path) -> dg.Definitions:
    resources = {"workspace": WorkspaceResource(home=str(home))}
    return dg.Definitions.merge(
        project_definitions(project, watched=False), dg.Definitions(resources=resources)
    )


def run(project: LoadedProject, home: Path, job: str, day: str | None) -> dg.ExecuteInProcessResult:
    found = definitions(project, home).resolve_job_def(job)
    tags = {"dagster/partition": day} if day else {}
    with dg.DagsterInstance.ephemeral() as instance:
        return found.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


@pytest.fixture
def wrong(tmp_path: Path) -> LoadedProject:
    """A project whose first row does not come out as it should."""
    return write_project(
        tmp_path / "shop", rows=[ROWS[0].replace("negative", "positive"), *ROWS[1:]]
    )


def test_the_check_is_there_where_it_is_declared(tmp_path: Path) -> None:
    (check,) = unit_checks(write_project(tmp_path / "shop"))

    (spec,) = check.check_specs
    assert (spec.name, spec.blocking, spec.asset_key.path) == ("unit_set", True, ["shop", "raw"])
    plain = SPEC.replace("  unit: {at_least: 1.0, epochs: 20}\n", "")
    assert unit_checks(write_project(tmp_path / "shop", plain)) == []


def test_rows_that_hold_let_a_run_go_on(tmp_path: Path, stages: FakeStages) -> None:
    project, home = write_project(tmp_path / "shop"), tmp_path / "home"

    days = run(project, home, "shop_daily", DAY)
    model = run(project, home, "shop_model", None)

    assert days.success
    assert model.success
    (told,) = [e for e in days.get_asset_check_evaluations() if e.check_name == "unit_set"]
    assert told.passed
    assert told.metadata["reused"].value is False
    version = Workspace.open(Home(home)).ledger.latest("shop", "unit", "unit")
    assert version is not None
    assert version.number == 1


def test_rows_that_fail_stop_the_days_before_anything_is_labeled(
    wrong: LoadedProject, tmp_path: Path, stages: FakeStages
) -> None:
    result = run(wrong, tmp_path / "home", "shop_daily", DAY)

    assert not result.success
    assert stages.calls == [("raw", DAY)]
    (told,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "unit_set"]
    assert told.severity == dg.AssetCheckSeverity.ERROR
    assert "expected positive, found negative" in str(told.description)
    assert stage_key(wrong.spec, DAILY_STAGES[0]) == told.asset_key


def test_rows_that_fail_stop_a_training_before_its_first_step(
    wrong: LoadedProject, tmp_path: Path, stages: FakeStages
) -> None:
    result = run(wrong, tmp_path / "home", "shop_model", None)

    assert not result.success
    assert stages.calls == []
    (failed,) = [e for e in result.all_events if e.is_step_failure]
    data = failed.step_failure_data.user_failure_data
    assert data is not None
    assert "the unit set of shop does not hold" in str(data.description)
