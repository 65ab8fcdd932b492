"""What `fm plan` says of a declaration before it lists what a run would build."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.cli.plan import forecast_text
from fm_platform.cli.render import plan_text, tables
from fm_platform.lineage.forecast import Forecast, StageForecast
from fm_platform.spec.load import LoadedProject, load_spec

PLAIN = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01}
  sources:
    - {name: main}
    - {name: other}
"""
CONSTRAINED = """\
  slices:
    - {name: short, column: word_count, operator: "<", value: 9}
    - {name: long, column: word_count, operator: ">=", value: 9}
  training: {narrow_gap: {between: source}}
  gate:
    constraints:
      largest_gap: [{at_most: 0.1}, {between: [short, long], at_most: 0.2}]
      false_positives: [{label: good, at_most: 0.05}]
      size_mb: 100
      latency: {at_most_ms: 20, threads: 2}
      confidence: 0.95
"""


def project(folder: Path, text: str) -> LoadedProject:
    (folder / "defs.yaml").write_text(text)
    return load_spec(folder / "defs.yaml")


def test_small_tables_are_shown_inert_and_cut() -> None:
    rows = [{"rule": f"r{i}", "rows": i} for i in range(14)] + [
        {"rule": "r", "column": "\x1b[31mred"}
    ]

    (shown,) = tables({"quarantined by rule": rows, "nothing": []})

    assert shown.splitlines()[:3] == ["quarantined by rule", "rule  rows  column", "r0    0"]
    assert shown.endswith("... 3 more (--json)")
    assert tables({"t": rows[-1:]}) == ["t\nrule  column\nr     red"]


def test_constraints_and_what_training_does_for_them_are_told(tmp_path: Path) -> None:
    lines = plan_text(project(tmp_path, PLAIN + CONSTRAINED), []).splitlines()

    assert "           narrows the gap between source, strength 10" in lines
    assert [line for line in lines if line.startswith("requires")] == [
        "requires   gap between source at most 0.1, shown with 95% confidence",
        "requires   gap between slice short, long at most 0.2, shown with 95% confidence",
        "requires   false positives of good at most 5.0%, shown with 95% confidence",
        "requires   at most 100 MB",
        "requires   95% of texts answered within 20 ms by 2 thread(s)",
    ]


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ("{}", "LoRA rank 8, learning rate 0.002"),
        ("{method: rslora, rank: 4}", "rsLoRA rank 4, learning rate 0.002"),
        ("{method: full, frozen_layers: 2}",
         "full fine-tuning, 2 lower layer(s) frozen, learning rate 0.0002"),
        ("{method: fish}", "FISH mask of 1 %, learning rate 0.002"),
        ("{method: head}", "head alone, learning rate 0.002"),
        ("{method: auto}", "as trials show"),
    ],
)  # fmt: skip
def test_the_method_of_training_is_told(tmp_path: Path, training: str, told: str) -> None:
    text = plan_text(project(tmp_path, f"{PLAIN}  training: {training}\n"), [])

    assert f"training   {told}, 1 epoch(s), seed 0" in text.splitlines()


def test_of_a_plain_project_nothing_is_told(tmp_path: Path) -> None:
    told = plan_text(project(tmp_path, PLAIN), [])

    assert "requires" not in told
    assert "narrows" not in told


@pytest.mark.parametrize(
    ("minutes", "last"),
    [
        ((None, None), "how long it takes is not known: nothing of it ran before"),
        ((2.0, None), "about 2.0 minutes, from what it took before; not known for votes"),
        ((2.0, 1.5), "about 3.5 minutes, from what it took before"),
    ],
)
def test_minutes_that_nobody_knows_are_not_told_as_none(
    minutes: tuple[float | None, float | None], last: str
) -> None:
    days = ("2026-01-01", "2026-01-02", 2)
    stages = [
        StageForecast(kind, 2, 0, 0, 0, {}, *days, took, took)
        for kind, took in zip(("raw", "votes"), minutes, strict=True)
    ]

    assert forecast_text(Forecast(tuple(stages))).splitlines()[-1] == last
