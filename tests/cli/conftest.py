"""An empty FM_HOME and an empty folder of projects for the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

SHIPPED = Path(__file__).resolve().parents[2]


@pytest.fixture
def fm() -> CliRunner:
    return CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An FM_HOME of its own; whatever the shell of the developer says is left out."""
    folder = tmp_path / "home"
    for name in ("FM_LAKE_URL", "FM_LEDGER_URL", "MLFLOW_TRACKING_URI", "FM_PROJECTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    monkeypatch.setenv("FM_HOME", str(folder))
    return folder


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of projects."""
    root = tmp_path / "checkout"
    (root / "assets" / "defs").mkdir(parents=True)
    monkeypatch.setenv("FM_PROJECTS", str(root))
    return root
