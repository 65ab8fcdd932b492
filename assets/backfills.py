"""The one place that asks for a backfill over exactly chosen days.

Dagster 1.13 has no public object by which a sensor launches a backfill of chosen partitions
(dagster#27759). So, in this order:

1. one day: a plain run request, the public way;
2. more days, or models: `RunRequest.for_asset_graph_subset`, a method of a public class that its
   docstring calls private; it becomes *one* backfill with our tags. A test pins it on the
   installed version;
3. where that is gone: one public run request a day, at most `MAX_RUNS` of them.

`RunRequest.for_asset_partition_range` (dagster#34096) is to replace 2 when it is released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

MAX_RUNS = 50
_WILL_RETRY = "dagster/will_retry"  # the daemon will start a failed run with this tag again


def backfill_requests(
    keys: Sequence[dg.AssetKey],
    partitions: dg.DailyPartitionsDefinition,
    days: Sequence[str],
    *,
    reason: str,
    models: Sequence[dg.AssetKey] = (),
    run_key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> list[dg.RunRequest]:
    """Return what a sensor returns to have `days` of the assets `keys` built again.

    The sensor must be declared with `asset_selection=` (with `target=` Dagster refuses route 2)
    and must advance its cursor in the same result: route 2 carries no run key.

    Args:
        keys: Daily assets that share `partitions`.
        partitions: Their partitions.
        days: Days to build, `YYYY-MM-DD`; gaps are fine. None where only `models` are built.
        reason: Why, for the run's tags; also makes the run keys of routes 1 and 3.
        models: Assets without partitions that are built after the days, in the same backfill.
        run_key: What makes the run keys instead of the reason.
        tags: More tags.

    Raises:
        ValueError: If a day is not a partition, or no day or asset is given.
    """
    all_tags = {"asked_by": "backfill", "reason": reason, **(tags or {})}
    name = run_key or reason
    after = [dg.RunRequest(run_key=f"{name}:models", asset_selection=list(models), tags=all_tags)]
    chosen = _checked(keys, partitions, days) if days or not models else []
    if len(chosen) > 1 or models:
        request = _one_backfill(keys, partitions, chosen, all_tags, models)
        if request is not None:
            return [request]
    return [
        dg.RunRequest(
            run_key=f"{name}:{day}", partition_key=day, asset_selection=list(keys), tags=all_tags
        )
        for day in chosen[:MAX_RUNS]
    ] + (after if models else [])


def existing_backfill(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> str | None:
    """Return the id of the backfill or run with all these tags, or None."""
    from dagster._core.execution.backfill import BulkActionsFilter

    found = instance.get_backfills(filters=BulkActionsFilter(tags=dict(tags)), limit=1)
    if found:
        return found[0].backfill_id
    runs = instance.get_runs(filters=dg.RunsFilter(tags=dict(tags)), limit=1)
    return runs[0].run_id if runs else None


def how_it_ended(instance: dg.DagsterInstance, run: str, tags: Mapping[str, str]) -> bool | None:
    """Return whether a backfill, or the runs with these tags, succeeded; None while they run.

    Of runs that were tried again the last try counts.
    """
    backfill = instance.get_backfill(run) if run else None
    if backfill is not None:
        if backfill.status.value in ("REQUESTED", "CANCELING", "COMPLETING", "FAILING"):
            return None
        return backfill.status.value in ("COMPLETED", "COMPLETED_SUCCESS")
    runs = instance.get_runs(filters=dg.RunsFilter(tags=dict(tags)))  # newest first
    if not runs or not all(one.is_finished for one in runs):
        return None
    last: dict[str, dg.DagsterRun] = {}
    for one in runs:
        last.setdefault(one.root_run_id or one.run_id, one)
    if any(not one.is_success and will_retry(one) for one in last.values()):
        return None
    return all(one.is_success for one in last.values())


def will_retry(run: dg.DagsterRun) -> bool:
    """Whether a run that failed is about to be tried again."""
    return run.tags.get(_WILL_RETRY) == "true"


def _checked(
    keys: Sequence[dg.AssetKey],
    partitions: dg.DailyPartitionsDefinition,
    days: Sequence[str],
) -> list[str]:
    if not keys or not days:
        raise ValueError("a backfill needs at least one asset and one day")
    known = set(partitions.get_partition_keys())
    if unknown := sorted(set(days) - known):
        raise ValueError(f"not days of these assets: {', '.join(unknown)}")
    return sorted(set(days))


def _one_backfill(
    keys: Sequence[dg.AssetKey],
    partitions: dg.DailyPartitionsDefinition,
    days: Sequence[str],
    tags: Mapping[str, str],
    models: Sequence[dg.AssetKey],
) -> dg.RunRequest | None:
    try:
        from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset

        build = dg.RunRequest.for_asset_graph_subset
    except (ImportError, AttributeError):
        return None
    subset = partitions.empty_subset().with_partition_keys(days)
    daily = dict.fromkeys(keys, subset) if days else {}
    make: Any = AssetGraphSubset  # its decorator hides its fields from a type checker
    chosen = make(
        partitions_subsets_by_asset_key=daily,
        non_partitioned_asset_keys=set(models),
    )
    return build(chosen, dict(tags))
