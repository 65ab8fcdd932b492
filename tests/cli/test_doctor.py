from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli import doctor
from fm_platform.cli.app import app


def by_name(fm: CliRunner) -> tuple[int, dict[str, dict[str, object]]]:
    answer = fm.invoke(app, ["doctor", "--json"])
    return answer.exit_code, {check["name"]: check for check in json.loads(answer.output)}


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of whoever runs the tests may be nearly full."""
    monkeypatch.setattr(doctor, "FREE_BYTES", 0)


def test_a_sound_installation(fm: CliRunner, home: Path) -> None:
    code, checks = by_name(fm)
    assert code == 0
    assert all(check["passed"] for check in checks.values())
    assert checks["FM_HOME"]["detail"] == str(home)
    assert {f"version of {name}" for name in doctor.FLOORS} <= set(checks)


def test_the_text_form(fm: CliRunner) -> None:
    answer = fm.invoke(app, ["doctor"])
    assert answer.exit_code == 0
    assert "FAIL" not in answer.output
    assert "FM_HOME" in answer.output


def test_a_version_below_its_floor(fm: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.FLOORS, "pyarrow", (10_000,))
    code, checks = by_name(fm)
    assert code == 1
    assert not checks["version of pyarrow"]["passed"]


def test_a_package_that_is_not_there(fm: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FLOORS", {"no-such-package-here": (1,)})
    _, checks = by_name(fm)
    assert checks["version of no-such-package-here"]["detail"] == "not installed"


def test_a_home_that_cannot_be_written(
    fm: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FM_HOME", str(blocked / "home"))
    code, checks = by_name(fm)
    assert code == 1
    assert not checks["FM_HOME"]["passed"]


def test_pickled_models_must_not_be_allowed(fm: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "True")
    code, checks = by_name(fm)
    assert code == 1
    assert not checks["pickled models"]["passed"]


def test_a_full_disk(fm: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 80)
    code, checks = by_name(fm)
    assert code == 1
    assert not checks["free disk"]["passed"]


def test_a_daemon_that_runs_is_named(fm: CliRunner, home: Path) -> None:
    lock = home / "dagster" / "daemon.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"pid": os.getpid()}))
    assert str(os.getpid()) in str(by_name(fm)[1]["daemon"]["detail"])
    lock.write_text("half a no")
    assert "not running" in str(by_name(fm)[1]["daemon"]["detail"])


def test_records_that_wait_for_mlflow_are_told(fm: CliRunner, home: Path) -> None:
    spool = home / "mlflow" / "spool"
    spool.mkdir(parents=True)
    (spool / f"{1:012d}-champion-{'0' * 64}.json").write_text("{}")

    code, checks = by_name(fm)

    assert code == 1
    assert "1 record(s) wait" in str(checks["MLflow spool"]["detail"])
