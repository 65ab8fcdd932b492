from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest

from assets.definitions import shared_definitions
from assets.project import project_definitions
from assets.resources import WorkspaceResource
from fm_platform.hashing import fingerprint
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages.common import CheckResult, StageResult

DEFS = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  description: Is a message of a customer praise or a complaint?
  taxonomy:
    classes: [praise, complaint]
  calendar:
    start: 2024-01-01
    end: 2024-01-04
  sources:
    - name: mail
      options: {path: mail.csv}
    - name: chat
      options: {path: chat.csv}
  labeling:
    functions:
      - {kind: keyword, name: thanks, words: [thanks], label: praise}
      - {kind: keyword, name: broken, words: [broken], label: complaint}
  experts:
    - {name: mail, sources: [mail]}
    - {name: chat, sources: [chat]}
  schedule:
    cron: "0 2 * * *"
"""
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that holds one small project."""
    folder = tmp_path / "checkout" / "assets" / "defs" / "shop"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(DEFS)
    return tmp_path / "checkout"


@pytest.fixture
def project(root: Path) -> LoadedProject:
    return load_spec(root / "assets" / "defs" / "shop" / "defs.yaml")


@pytest.fixture
def definitions(project: LoadedProject, tmp_path: Path) -> dg.Definitions:
    """The project's definitions on a home of the test."""
    resources = {"workspace": WorkspaceResource(home=str(tmp_path / "home"))}
    shared = shared_definitions()
    return dg.Definitions.merge(
        project_definitions(project, watched=False),
        dg.Definitions(resources=resources, sensors=shared.sensors, executor=shared.executor),
    )


def stage_result(
    name: str = "raw",
    day: str | None = "2024-01-01",
    *,
    checks: Mapping[str, bool] | None = None,
    blocking: bool = True,
    **fields: Any,
) -> StageResult:
    """A stage result as a stage would give it."""
    version = ArtifactVersion(
        id=1, project="shop", kind=name, name=name, partition=day, number=3,
        recipe_hash=fingerprint(["recipe", name, day]),
        content_hash=fingerprint(["content", name, day]),
        location=fields.pop("location", {}), parts={}, metrics={},
        config={"minimum_coverage": 0.5}, code="c",
        environment="e", seed=None, rows=fields.pop("rows", 7), bytes=100,
        created_at=datetime(2024, 1, 5, tzinfo=timezone.utc), duration_s=0.1,
        asked_by="person", dagster_run_id=None, mlflow_run_id=None, git_commit=None,
        git_dirty=None,
    )  # fmt: skip
    verdicts = tuple(
        CheckResult(check, passed, f"{check} {'holds' if passed else 'does not hold'}",
                    {"share": 0.5, "coverage": 0.9 if passed else 0.1}, blocking)
        for check, passed in (checks or {}).items()
    )  # fmt: skip
    return StageResult(
        version, fields.pop("reused", False), fields.pop("reason", "first build"),
        checks=verdicts, **fields,
    )  # fmt: skip


class FakeStages:
    """Stands in for the library's stages and records what was asked of them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str | None]] = []
        self.failing: dict[str, Callable[[str | None], Exception | None]] = {}
        self.failed_checks: set[str] = set()
        self.blocking = True
        self.reused = False
        self.left_out: dict[str, str] = {}
        self.asked_by: set[str] = set()

    def result(self, name: str, day: str | None, run: Any, log: Any) -> StageResult:
        self.calls.append((name, day))
        self.asked_by.add(run.asked_by)
        if name in self.failing and (error := self.failing[name](day)):
            raise error
        log.progress(f"work on {name}", 1, 2, "loss 0.5")
        log.progress(f"work on {name}", 2, 2)
        names = {
            "raw": ("contract", "non_empty"),
            "weak_labels": ("label_coverage", "function_failures"),
            "cleaned": ("nothing_lost",),
            "watch": ("drift",),
            "merged_model": ("merge_is_exact",),
            "evaluation": ("gate", "leaks", "non_empty"),
        }.get(name, ("finite_loss",))
        return stage_result(
            name, day, reused=self.reused, blocking=self.blocking,
            checks={f"{c}": f"{name}.{c}" not in self.failed_checks for c in names},
        )  # fmt: skip

    def modules(self) -> dict[str, ModuleType]:
        found = {}
        for name, place, function in (
            ("raw", "raw", "build_raw"), ("cleaned", "cleaned", "build_cleaned"),
            ("weak_labels", "label_days", "build_labeled_day"), ("watch", "watch", "build_watch"),
        ):  # fmt: skip
            module = ModuleType(place)
            setattr(
                module, function,
                lambda ws, project, day, run, log, name=name: self.result(name, day, run, log),
            )  # fmt: skip
            found[place] = module
        found["adapters"] = ModuleType("adapters")
        found["adapters"].build_start = lambda ws, p, run, log: self.result(
            "shared_start", None, run, log
        )
        found["adapters"].build_adapter = lambda ws, p, expert, run, log: self.result(
            expert, None, run, log
        )
        for name in ("merged_model", "evaluation"):
            module = ModuleType(name)
            setattr(
                module, f"build_{name}",
                lambda ws, project, run, log, name=name: self.result(name, None, run, log),
            )  # fmt: skip
            found[name] = module
        found["silent"] = ModuleType("silent")
        found["silent"].with_rows = lambda ws, project: project
        found["silent"].why_left_out = lambda ws, project, expert: self.left_out.get(expert)
        return {f"fm_platform.stages.{name}": module for name, module in found.items()}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    """Fake stages in the place of the library's."""
    fake = FakeStages()
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def pytest_configure(config: pytest.Config) -> None:
    """Silence Dagster's beta notices: pytest resets the filters that `assets.catalog` sets."""
    config.addinivalue_line("filterwarnings", "ignore::dagster.BetaWarning")
