from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.instance import open_instance
from assets.keys import DAILY_STAGES
from assets.run import chosen_days, main
from fm_platform.errors import FMError, NonFiniteLossError
from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject
from tests.assets.conftest import DAYS, FakeStages


@pytest.fixture(autouse=True)
def environment(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FM_PROJECTS", str(root))
    monkeypatch.setenv("FM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    return tmp_path / "home"


def answer(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capfd.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_the_whole_chain_is_two_runs(
    stages: FakeStages, capfd: pytest.CaptureFixture[str], environment: Path
) -> None:
    assert main(["shop", "--json"]) == 0

    report = answer(capfd)
    assert (report["ok"], report["built"], report["reused"]) == (True, 17, 0)
    assert [run["part"] for run in report["runs"]] == ["daily", "model"]
    assert report["days"] == DAYS
    with open_instance(Home(environment)) as instance:
        runs = [record.dagster_run for record in instance.get_run_records()]
    assert [run.job_name for run in runs] == ["shop_model", "shop_daily"]
    assert all(run.status == dg.DagsterRunStatus.SUCCESS for run in runs)
    assert {"asked_by", "git_commit", "project"} <= set(runs[0].tags)


def test_nothing_to_do_is_said(stages: FakeStages, capfd: pytest.CaptureFixture[str]) -> None:
    stages.reused = True

    assert main(["shop"]) == 0

    shown = capfd.readouterr()
    assert "nothing to do: all 17 artifacts are fresh" in shown.out
    assert "shop/raw: 4 days, all fresh" in shown.err
    assert "shop/merged_model: fresh" in shown.err


def test_what_was_built_is_said(stages: FakeStages, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["shop", "--from", DAYS[2]]) == 0

    shown = capfd.readouterr()
    assert "11 artifacts built, 0 fresh and reused" in shown.out
    assert "shop/weak_labels: 2 days, 2 built, 0 fresh" in shown.err


def test_only_the_stages_asked_for(stages: FakeStages, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["shop", "--stages", "raw", "weak_labels", "--to", DAYS[0], "--json"]) == 0

    assert stages.calls == [("raw", DAYS[0]), ("weak_labels", DAYS[0])]
    assert [run["part"] for run in answer(capfd)["runs"]] == ["daily"]


def test_a_failing_step_gives_its_error_and_no_model(
    stages: FakeStages, capfd: pytest.CaptureFixture[str]
) -> None:
    stages.failing["weak_labels"] = lambda day: NonFiniteLossError("it broke", where="row 3")

    assert main(["shop"]) == 1

    shown = capfd.readouterr()
    assert "error: shop/weak_labels: it broke\n  where: row 3" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert {name for name, _ in stages.calls} == {"raw", "weak_labels"}


def test_what_cannot_work_is_told_before_anything_is_built(
    stages: FakeStages, capfd: pytest.CaptureFixture[str], root: Path
) -> None:
    (root / "assets" / "defs" / "shop" / "labeling_functions.py").write_text(
        "from fm_platform.labeling import labeling_function\n\n\n"
        "@labeling_function\ndef loud(row):\n    return 'anger' if '!' in row.text else None\n"
    )

    assert main(["shop", "--json"]) == 1

    (error,) = answer(capfd)["errors"]
    assert "shop is not ready to be built" in error
    assert "loud answers 'anger'; the classes are praise, complaint" in error
    assert stages.calls == []


def test_a_failing_expert_does_not_stop_the_others(
    stages: FakeStages, capfd: pytest.CaptureFixture[str]
) -> None:
    stages.failing["chat"] = lambda day: NonFiniteLossError("it broke")

    assert main(["shop", "--json"]) == 1

    assert answer(capfd)["errors"] == ["shop/adapters/chat: it broke"]
    names = [name for name, _ in stages.calls if name not in DAILY_STAGES]
    assert sorted(names) == ["chat", "mail", "shared_start"]


def test_an_expert_without_rows_is_left_out_and_the_run_goes_on(
    stages: FakeStages, capfd: pytest.CaptureFixture[str]
) -> None:
    stages.left_out["chat"] = "left out: no row of chat came through"

    assert main(["shop"]) == 0

    shown = capfd.readouterr()
    assert "shop/adapters/chat: left out: no row of chat came through" in shown.err
    assert "16 artifacts built" in shown.out
    names = [name for name, _ in stages.calls if name not in DAILY_STAGES]
    assert sorted(names) == ["evaluation", "mail", "merged_model", "shared_start"]


def test_a_warning_is_shown_and_the_run_goes_on(
    stages: FakeStages, capfd: pytest.CaptureFixture[str]
) -> None:
    stages.failed_checks, stages.blocking = {"weak_labels.label_coverage"}, False

    assert main(["shop"]) == 0
    assert "warning: check label_coverage of shop/weak_labels failed" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "there is no project 'nothing'"),
        (["shop", "--from", "2023-12-31"], "--from 2023-12-31 is not a day of shop"),
        (["shop", "--to", "soon"], "expected: a day from 2024-01-01 to 2024-01-04"),
        (["shop", "--from", DAYS[2], "--to", DAYS[1]], "no day lies between"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(
    stages: FakeStages, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2

    assert said in capfd.readouterr().err
    assert stages.calls == []


def test_a_wrong_project_file_is_refused(
    root: Path, stages: FakeStages, capfd: pytest.CaptureFixture[str]
) -> None:
    (root / "assets" / "defs" / "shop" / "defs.yaml").write_text("type: x\n")

    assert main(["shop", "--json"]) == 2
    assert answer(capfd)["ok"] is False


def test_days_default_to_the_whole_calendar(project: LoadedProject) -> None:
    assert chosen_days(project, None, None) == DAYS
    assert chosen_days(project, DAYS[1], DAYS[2]) == DAYS[1:3]
    with pytest.raises(FMError):
        chosen_days(project, "2025-01-01", None)


def test_ctrl_c_stops_at_once_and_is_not_taken_for_an_error(
    stages: FakeStages, capfd: pytest.CaptureFixture[str], environment: Path
) -> None:
    def press(day: str | None) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    stages.failing["weak_labels"] = press

    assert main(["shop"]) == 130

    shown = capfd.readouterr()
    assert "interrupted; what is finished is kept, run again to go on" in shown.err
    assert stages.calls[-1] == ("weak_labels", DAYS[0])
    with open_instance(Home(environment)) as instance:
        (record,) = instance.get_run_records()
    assert record.dagster_run.status in (
        dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED,
    )  # fmt: skip
