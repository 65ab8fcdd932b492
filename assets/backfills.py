"""The one place that asks for a backfill over exactly chosen days.

Dagster 1.13 has no public object by which a sensor launches a backfill of chosen partitions
(dagster#27759). So, in this order:

1. one day: a plain run request, the public way;
2. more days: `RunRequest.for_asset_graph_subset`, a method of a public class that its docstring
   calls private; it becomes *one* backfill with our tags. A test pins it on the installed version;
3. where that is gone: one public run request a day, at most `MAX_RUNS` of them.

`RunRequest.for_asset_partition_range` (dagster#34096) is to replace 2 when it is released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

MAX_RUNS = 50


def backfill_requests(
    keys: Sequence[dg.AssetKey],
    partitions: dg.DailyPartitionsDefinition,
    days: Sequence[str],
    *,
    reason: str,
    tags: Mapping[str, str] | None = None,
) -> list[dg.RunRequest]:
    """Return what a sensor returns to have `days` of the assets `keys` built again.

    The sensor must be declared with `asset_selection=` (with `target=` Dagster refuses route 2)
    and must advance its cursor in the same result: route 2 carries no run key.

    Args:
        keys: Daily assets that share `partitions`.
        partitions: Their partitions.
        days: Days to build, `YYYY-MM-DD`; gaps are fine.
        reason: Why, for the run's tags; also makes the run keys of routes 1 and 3.
        tags: More tags.

    Raises:
        ValueError: If a day is not a partition, or no day or asset is given.
    """
    chosen = _checked(keys, partitions, days)
    all_tags = {"asked_by": "backfill", "reason": reason, **(tags or {})}
    if len(chosen) > 1 and (request := _one_backfill(keys, partitions, chosen, all_tags)):
        return [request]
    return [
        dg.RunRequest(
            run_key=f"{reason}:{day}", partition_key=day, asset_selection=list(keys), tags=all_tags
        )
        for day in chosen[:MAX_RUNS]
    ]


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
) -> dg.RunRequest | None:
    try:
        from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset

        build = dg.RunRequest.for_asset_graph_subset
    except (ImportError, AttributeError):
        return None
    subset = partitions.empty_subset().with_partition_keys(days)
    make: Any = AssetGraphSubset  # its decorator hides its fields from a type checker
    chosen = make(partitions_subsets_by_asset_key=dict.fromkeys(keys, subset))
    return build(chosen, dict(tags))
