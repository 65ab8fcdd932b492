"""Training is refused below the declared effective rows, and says of what there are too few."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm_platform.errors import CoverageError, SpecError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_start
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.coverage import cells, coverage_check, effective
from fm_platform.stages.models import training_days
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace

DAYS = ("2026-01-01", "2026-01-02")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: 2026-01-01, end: 2026-01-02}}
  sources: [{{name: main, options: {{path: "rows-*.jsonl"}}}}]
  contract: {{columns: {{text: {{}}, region: {{}}}}}}
  cleaning: [{{rule: length, min_chars: 1}}]
  labeling:
    functions:
      - {{kind: keyword, name: praise, words: [lovely], label: good}}
      - {{kind: keyword, name: blame, words: [awful], label: bad}}
    label_model: {{candidates: [majority_vote]}}
  slices: [{{name: north, column: region, operator: '==', value: north}}]
  coverage: {coverage}
"""


def project(folder: Path, coverage: Any) -> LoadedProject:
    folder.mkdir(exist_ok=True)
    for day in DAYS:
        rows = [
            {"text": f"{'awful' if i % 4 == 0 else 'lovely'} {i} {day}",
             "region": "north" if i % 8 == 0 else "south"}
            for i in range(80)
        ]  # fmt: skip
        (folder / f"rows-{day}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "defs.yaml").write_text(SPEC.format(coverage=json.dumps(coverage)))
    return load_spec(folder / "defs.yaml")


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two cleaned days; what is declared of coverage is no part of any recipe."""
    found = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    loaded = project(tmp_path_factory.mktemp("built") / "shop", None)
    for day in DAYS:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            stage(found, loaded, day, RunContext(), SilentReporter())
    return found


def test_classes_and_slices_are_counted_by_probability(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop", {"minimum": 20, "slices": {"north": 5}})

    found = {(c.slice, c.label): c for c in cells(ws, loaded.spec, training_days(ws, loaded.spec))}

    assert set(found) == {(s, c) for s in ("all", "north") for c in ("bad", "good")}
    # of about 112 train rows a quarter is bad; the north is all bad
    assert 15 < found["all", "bad"].have < 45
    assert found["all", "good"].have > 60
    assert found["north", "good"].have == 0
    assert found["north", "bad"].have < found["all", "bad"].have


def test_training_is_refused_and_told_what_is_missing(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop", {"minimum": 5, "slices": {"north": {"good": 5}}})

    with pytest.raises(CoverageError) as refused:
        build_start(ws, loaded, RunContext(), SilentReporter())

    told = str(refused.value)
    for word in ("class good in slice north: at least 5", "north: 0.0", "fm label queue shop",
                 "--class good"):  # fmt: skip
        assert word in told
    assert "class bad" not in told
    check = coverage_check(ws, loaded.spec, training_days(ws, loaded.spec))
    assert (check.passed, check.blocking) == (False, False)
    assert {row["slice"]: row["enough"] for row in check.metadata["coverage"]} == {
        "all": True, "north": False,
    }  # fmt: skip


def test_nothing_declared_asks_for_nothing(ws: Workspace, tmp_path: Path) -> None:
    loaded = project(tmp_path / "shop", None)

    assert cells(ws, loaded.spec, training_days(ws, loaded.spec)) == []


@pytest.mark.parametrize(
    ("coverage", "says"),
    [
        ({"minimum": 1, "classes": {"ugly": 3}}, "unknown class 'ugly'"),
        ({"minimum": 1, "slices": {"south": 3}}, "unknown slice 'south'"),
        ({"minimum": 1, "slices": {"north": {"ugly": 3}}}, "unknown class 'ugly'"),
        ({"minimum": 0}, "greater than 0"),
    ],
)
def test_mistakes_have_a_line(tmp_path: Path, coverage: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        project(tmp_path / "shop", coverage)


WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-6, 1))


@given(hnp.arrays(np.float64, st.integers(0, 20), elements=WEIGHTS))
def test_the_effective_size_lies_between_one_and_the_number_of_texts(weights: Any) -> None:
    total, kish = effective(weights)
    some = int((weights > 0).sum())
    assert total == pytest.approx(weights.sum())
    assert kish <= some * (1 + 1e-9)
    assert kish >= min(some, 1) * (1 - 1e-9)


def test_equal_weights_are_worth_their_number_and_a_repeated_text_is_not() -> None:
    assert effective(np.full(7, 0.3))[1] == pytest.approx(7)
    assert effective(np.array([100.0, 1.0, 1.0]))[1] < 1.1
