from __future__ import annotations

import ast
from pathlib import Path

import dagster as dg
import pytest

import fm_platform.stages
from assets.checks import CHECKS, check_results, check_specs
from assets.coverage import coverage_checks
from assets.keys import STAGES
from fm_platform.spec.load import load_spec
from tests.assets.conftest import stage_result

KEY = dg.AssetKey(["shop", "raw"])
BOTH = {"contract": True, "non_empty": True}
E = dg.AssetCheckSeverity.ERROR
W = dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize("stage", sorted(CHECKS))
def test_every_check_blocks_but_the_one_on_drift(stage: str) -> None:
    specs = check_specs(stage, KEY)

    assert [spec.name for spec in specs] == list(CHECKS[stage])
    assert all(spec.description for spec in specs)
    assert {spec.name for spec in specs if not spec.blocking} <= {"drift"}


@pytest.mark.parametrize("stage", STAGES)
def test_declared_checks_are_those_that_the_stage_gives(stage: str) -> None:
    names = {"weak_labels": "label_summary"}  # where a stage puts them together
    source = Path(fm_platform.stages.__file__).with_name(f"{names.get(stage, stage)}.py")
    given = {
        node.args[0].value
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "CheckResult"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }

    assert given == set(CHECKS[stage])


def test_one_day_keeps_its_words_and_numbers() -> None:
    contract, _ = check_results("raw", KEY, {"2024-01-01": stage_result(checks=BOTH)})

    assert contract.passed
    assert contract.description == "contract holds"
    assert contract.metadata["share"] == dg.MetadataValue.float(0.5)


def test_one_bad_day_of_a_range_fails_and_is_named_first() -> None:
    results = {
        "2024-01-01": stage_result(day="2024-01-01", checks=BOTH),
        "2024-01-02": stage_result(day="2024-01-02", checks={**BOTH, "contract": False}),
    }

    contract, non_empty = check_results("raw", KEY, results)

    assert (contract.passed, contract.severity) == (False, E)
    assert "2024-01-02: contract does not hold" in (contract.description or "")
    assert [r.data["day"] for r in contract.metadata["verdicts"].records] == [
        "2024-01-02", "2024-01-01",
    ]  # fmt: skip
    assert non_empty.passed
    assert non_empty.description == "passed on all 2 days"


@pytest.mark.parametrize(("empty", "severity"), [("2024-01-01", W), ("2024-01-02", E)])
def test_a_day_without_rows_stops_the_range_only_where_none_follows(
    empty: str, severity: dg.AssetCheckSeverity
) -> None:
    results = {
        day: stage_result(day=day, checks={**BOTH, "non_empty": day != empty})
        for day in ("2024-01-01", "2024-01-02")
    }

    _, non_empty = check_results("raw", KEY, results)

    assert (non_empty.passed, non_empty.severity) == (False, severity)
    assert f"{empty}: non_empty does not hold" in (non_empty.description or "")


@pytest.mark.parametrize(("rows", "severity"), [(100, W), (800, E)])
def test_a_thin_day_stops_the_range_only_where_the_range_is_thin(
    rows: int, severity: dg.AssetCheckSeverity
) -> None:
    results = {
        day: stage_result(
            "weak_labels", day, rows=rows if thin else 200,
            checks={"label_coverage": not thin, "function_failures": True},
        )
        for day, thin in (("2024-01-01", False), ("2024-01-02", False), ("2024-01-03", True))
    }  # fmt: skip

    coverage, failures = check_results("weak_labels", KEY, results)

    assert (coverage.passed, coverage.severity) == (False, severity)
    assert "2024-01-03: label_coverage does not hold" in (coverage.description or "")
    assert failures.passed


def test_a_thin_day_alone_stops() -> None:
    checks = {"label_coverage": False, "function_failures": True}
    result = stage_result("weak_labels", "2024-01-01", checks=checks)

    coverage, _ = check_results("weak_labels", KEY, {"2024-01-01": result})

    assert (coverage.passed, coverage.severity) == (False, E)


def test_a_check_that_only_warns_lets_downstream_run() -> None:
    result = stage_result(checks={**BOTH, "contract": False}, blocking=False)

    contract, _ = check_results("raw", KEY, {"2024-01-01": result})

    assert (contract.passed, contract.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_check_without_a_verdict_has_not_passed() -> None:
    results = check_results("raw", KEY, {"2024-01-01": stage_result(checks={"contract": True})})

    assert [(r.check_name, r.passed, r.severity) for r in results] == [
        ("contract", True, E), ("non_empty", False, E),
    ]  # fmt: skip


def test_a_verdict_that_nobody_declared_is_a_mistake() -> None:
    with pytest.raises(dg.DagsterInvariantViolationError, match="mystery"):
        check_results("raw", KEY, {"2024-01-01": stage_result(checks={**BOTH, "mystery": True})})


def test_coverage_is_checked_where_it_is_declared_and_stops_nothing(root: Path) -> None:
    file = root / "assets" / "defs" / "shop" / "defs.yaml"
    assert coverage_checks(load_spec(file)) == []
    file.write_text(file.read_text() + "  coverage: {minimum: 20}\n")

    (check,) = coverage_checks(load_spec(file))

    (spec,) = check.check_specs
    assert (spec.name, spec.blocking, spec.asset_key) == (
        "coverage", False, dg.AssetKey(["shop", "cleaned"]),
    )  # fmt: skip
