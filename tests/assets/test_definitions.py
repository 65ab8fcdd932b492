from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets import definitions as definitions_module
from assets.definitions import load_definitions
from assets.project import ContinuousTraining
from fm_platform.errors import SpecError
from fm_platform.spec import ProjectSpec
from tests.assets.conftest import DEFS

HEAVY = ("torch", "transformers", "peft", "evidently", "mlflow", "sklearn", "matplotlib")
SNAPSHOT = Path(__file__).with_name("asset_graph.json")
ACCEPT = "FM_ACCEPT_SNAPSHOT"


def graph_of(definitions: dg.Definitions) -> dict[str, Any]:
    """What a reader of the asset graph sees, without code versions and file paths."""
    graph = definitions.resolve_asset_graph()
    checks: dict[str, list[str]] = {}
    for key in sorted(graph.asset_check_keys):
        checks.setdefault(key.asset_key.to_user_string(), []).append(key.name)
    assets = {}
    for spec in sorted(definitions.resolve_all_asset_specs(), key=lambda spec: spec.key):
        node = graph.get(spec.key)
        assets[spec.key.to_user_string()] = {
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "group": spec.group_name,
            "owners": list(spec.owners),
            "kinds": sorted(spec.kinds),
            "tags": {k: v for k, v in sorted(spec.tags.items()) if "kind" not in k},
            "days": list(spec.partitions_def.get_partition_keys()) if spec.partitions_def else None,
            "single_run": node.backfill_policy == dg.BackfillPolicy.single_run(),
            "condition": spec.automation_condition.get_label()
            if spec.automation_condition
            else None,
            "checks": checks.get(spec.key.to_user_string(), []),
            "pools": sorted(node.pools or []),
            "described": bool(spec.description),
            "metadata": sorted(k for k in spec.metadata if k.startswith("dagster/column")),
            "code_references": "dagster/code_references" in spec.metadata,
        }
    repository = definitions.get_repository_def()
    return {
        "assets": assets,
        "jobs": sorted(job for job in repository.job_names if not job.startswith("__")),
        "schedules": sorted(s.name for s in repository.schedule_defs),
        "sensors": {s.name: s.default_status.value for s in repository.sensor_defs},
    }


def test_asset_graph_is_as_recorded(root: Path) -> None:
    found = json.loads(json.dumps(graph_of(load_definitions(root)), sort_keys=True))

    if os.environ.get(ACCEPT):
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(SNAPSHOT.read_text()), f"if meant, run again with {ACCEPT}=1"


def test_location_is_loadable(root: Path) -> None:
    dg.Definitions.validate_loadable(load_definitions(root))


def test_no_projects_is_a_valid_location(tmp_path: Path) -> None:
    dg.Definitions.validate_loadable(load_definitions(tmp_path))


def test_two_projects_stand_side_by_side(root: Path) -> None:
    folder = root / "assets" / "defs" / "other"
    folder.mkdir()
    text = (root / "assets" / "defs" / "shop" / "defs.yaml").read_text()
    (folder / "defs.yaml").write_text(text.replace("name: shop", "name: other"))

    definitions = load_definitions(root)

    dg.Definitions.validate_loadable(definitions)
    assert {key.path[0] for key in definitions.resolve_all_asset_keys()} == {"shop", "other"}


def test_labeling_functions_are_not_imported_with_the_location(root: Path) -> None:
    (root / "assets" / "defs" / "shop" / "labeling_functions.py").write_text("1 / 0\n")

    dg.Definitions.validate_loadable(load_definitions(root))


def test_the_schema_of_the_component_is_the_librarys(root: Path) -> None:
    assert ContinuousTraining.get_model_cls() is ProjectSpec


def test_a_wrong_file_stops_loading_with_every_mistake_and_its_line(root: Path) -> None:
    file = root / "assets" / "defs" / "shop" / "defs.yaml"
    wrong = DEFS.replace('cron: "0 2 * * *"', "cron: every day")
    file.write_text(wrong.replace("sources: [mail]", "sources: [post]"))

    with pytest.raises(SpecError) as caught:
        load_definitions(root)
    assert [problem.path for problem in caught.value.problems] == [
        "experts[0].sources[0]", "schedule.cron",
    ]  # fmt: skip
    assert all(problem.line for problem in caught.value.problems)


def test_the_component_by_itself_finds_contradictions(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(definitions_module, "load_spec", lambda *_: None)
    file = root / "assets" / "defs" / "shop" / "defs.yaml"
    file.write_text(DEFS.replace("sources: [mail]", "sources: [post]"))

    with pytest.raises(Exception, match="shop") as caught:
        load_definitions(root)
    assert "unknown source 'post'" in str(caught.value.__cause__)


def test_loading_imports_nothing_heavy(root: Path) -> None:
    script = (
        "import sys, dagster as dg, assets.definitions as d;"
        "dg.Definitions.validate_loadable(d.defs());"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "FM_PROJECTS": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
    assert "Warning" not in done.stderr
