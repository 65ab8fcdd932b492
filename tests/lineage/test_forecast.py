"""What a plan counts, and that a run does exactly that."""

from __future__ import annotations

from typing import Any

import pytest

from fm_platform.lineage.forecast import forecast
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.settings import same_settings, settings_of
from fm_platform.spec.models import ProjectSpec
from tests.lineage.simulated import Simulation, make_spec


@pytest.fixture
def built(ledger: Ledger) -> Simulation:
    project = Simulation(ledger, make_spec())
    project.run()
    return project


def split(spec: ProjectSpec) -> ProjectSpec:
    taxonomy = {
        "version": 2,
        "classes": ["fine", "great", "bad"],
        "changes": [{"version": 2, "split": {"good": ["fine", "great"]}}],
    }
    return ProjectSpec.model_validate(spec.model_dump() | {"taxonomy": taxonomy})


def test_what_is_certain_of_a_split_is_told_apart_from_what_may_be(built: Simulation) -> None:
    built.spec = split(built.spec)

    told = {s.kind: s for s in forecast(built.ledger, "shop", built.plan()).stages}

    assert (told["raw"].carry, told["raw"].build) == (4, 0)
    assert (told["votes"].carry, told["votes"].build) == (8, 4)  # the function that learns
    assert told["votes"].names == {"learned_0": 4}
    assert "embeddings" not in told
    assert [told[kind].build for kind in ("label_model", "weak_labels", "cleaned")] == [4, 4, 4]
    assert [told[kind].build for kind in ("start", "adapter", "merged_model")] == [1, 2, 1]
    assert sum(stage.check for stage in told.values()) == 0


def test_the_way_back_is_made_of_what_is_there(built: Simulation) -> None:
    before = built.spec
    built.spec = split(before)
    built.run()
    built.spec = before

    told = {s.kind: s for s in forecast(built.ledger, "shop", built.plan()).stages}

    assert told["raw"].reuse == 4
    assert built.run() == []


def test_minutes_are_those_that_it_took_before(built: Simulation) -> None:
    built.edit("plain_0", "other source")

    counted = forecast(built.ledger, "shop", built.plan())

    assert counted.minutes == 0.0  # nothing takes time in a simulation
    assert counted.stages[0].kind == "votes"
    assert counted.stages[0].names == {"plain_0": 4}
    assert (counted.stages[0].first_day, counted.stages[0].days) == ("2026-01-01", 4)
    assert counted.unknown == ()


def test_nothing_to_do_is_an_empty_forecast(built: Simulation) -> None:
    assert forecast(built.ledger, "shop", built.plan()).stages == ()


@pytest.mark.parametrize(
    "more",
    [
        {"cleaning": [{"rule": "label_noise"}]},
        {"cleaning": [{"rule": "metadata_repair", "columns": {"unit": {}}}]},
        {"cleaning": [{"rule": "near_duplicates"}, {"rule": "pii"}, {"rule": "text_quality"}]},
        {"evaluation": {"router": True}},
        {"training": {"frozen_layers": 1}},
        {"training": {"continue": {}}},
        {"coverage": {"minimum": 5}},
    ],
)
def test_what_was_just_made_is_told_to_have_the_settings_of_now(
    ledger: Ledger, more: dict[str, Any]
) -> None:
    project = Simulation(ledger, make_spec(**more))
    project.run()
    heads = ledger.heads("shop")
    configs = ledger.configs([head.id for head in heads])

    other = [
        head.slot for head in heads
        if (now := settings_of(project.spec, head.slot, project.functions)) is not None
        and not same_settings(head, configs[head.id], now)
    ]  # fmt: skip

    assert other == []
