from __future__ import annotations

import sys

import dagster as dg
import pytest

from assets import backfills
from assets.backfills import backfill_requests
from assets.keys import keys_of_stages
from assets.partitions import daily_partitions
from fm_platform.spec.load import LoadedProject
from tests.assets.conftest import DAYS

PRIVATE = "dagster._core.definitions.assets.graph.asset_graph_subset"


@pytest.fixture
def keys(project: LoadedProject) -> list[dg.AssetKey]:
    return keys_of_stages(project.spec, ("raw", "weak_labels", "cleaned"))


@pytest.fixture
def partitions(project: LoadedProject) -> dg.DailyPartitionsDefinition:
    return daily_partitions(project.spec)


def test_days_with_a_gap_become_one_backfill_over_exactly_these_days(
    keys: list[dg.AssetKey], partitions: dg.DailyPartitionsDefinition
) -> None:
    days = [DAYS[3], DAYS[0]]

    (request,) = backfill_requests(
        keys, partitions, days, reason="drift in mail", tags={"alert": "7"}
    )

    assert request.requires_backfill_daemon()
    assert request.asset_graph_subset is not None
    for key in keys:
        subset = request.asset_graph_subset.partitions_subsets_by_asset_key[key]
        assert sorted(subset.get_partition_keys()) == [DAYS[0], DAYS[3]]
    assert request.tags["reason"] == "drift in mail"
    assert request.tags["alert"] == "7"
    assert request.tags["asked_by"] == "backfill"


def test_models_without_days_are_one_backfill_too(
    project: LoadedProject, keys: list[dg.AssetKey], partitions: dg.DailyPartitionsDefinition
) -> None:
    models = keys_of_stages(project.spec, ("adapters", "merged_model"))

    (request,) = backfill_requests(keys, partitions, [], models=models, reason="amazon came")

    assert request.requires_backfill_daemon()
    assert request.asset_graph_subset is not None
    assert request.asset_graph_subset.non_partitioned_asset_keys == set(models)
    assert not request.asset_graph_subset.partitions_subsets_by_asset_key


def test_one_day_is_a_plain_run_with_a_run_key(
    keys: list[dg.AssetKey], partitions: dg.DailyPartitionsDefinition
) -> None:
    (request,) = backfill_requests(keys, partitions, [DAYS[1]], reason="late data")

    assert not request.requires_backfill_daemon()
    assert (request.partition_key, request.run_key) == (DAYS[1], f"late data:{DAYS[1]}")
    assert request.asset_selection == keys


def test_without_the_private_route_each_day_is_a_run(
    keys: list[dg.AssetKey],
    partitions: dg.DailyPartitionsDefinition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backfills, "_one_backfill", lambda *_: None)

    requests = backfill_requests(keys, partitions, [*DAYS, *DAYS], reason="r")

    assert [request.partition_key for request in requests] == DAYS
    assert len({request.run_key for request in requests}) == len(DAYS)


def test_a_dagster_without_the_private_route_is_noticed(
    keys: list[dg.AssetKey],
    partitions: dg.DailyPartitionsDefinition,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, PRIVATE, None)

    assert len(backfill_requests(keys, partitions, DAYS, reason="r")) == len(DAYS)


@pytest.mark.parametrize("days", [[], ["2023-12-31"], [DAYS[0], "tomorrow"]])
def test_days_that_are_none_are_refused(
    keys: list[dg.AssetKey], partitions: dg.DailyPartitionsDefinition, days: list[str]
) -> None:
    with pytest.raises(ValueError, match="day"):
        backfill_requests(keys, partitions, days, reason="r")
