"""What all assets have in common: group, owners, kinds, code version, pool, tags."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import dagster as dg

from assets.checks import check_specs
from assets.columns import column_lineage, column_schema
from assets.partitions import daily_partitions
from fm_platform.lineage.fingerprints import code_fingerprint
from fm_platform.spec import ProjectSpec

# Dagster gives its beta notice at every definition that has a backfill policy or a code reference,
# and whenever it copies a check (`execution_type`) or a sensor (`owners`, `use_user_code_server`).
# The tests pin what is used here on the version in constraints.txt. No other notice is silenced.
for _what in ("backfill_policy", "execution_type", "owners", "use_user_code_server"):
    warnings.filterwarnings("ignore", f"Parameter `{_what}`", category=dg.BetaWarning)
for _what in ("Class `.*CodeReference.*`", "Function `with_source_code_references`"):
    warnings.filterwarnings("ignore", _what, category=dg.BetaWarning)

DATA_POOL = "fm_data"
MODEL_POOL = "fm_model"


@cache
def code_version(module: str) -> str:
    """Return the fingerprint of a stage's code and of the library code it uses."""
    return code_fingerprint(module)[:16]


def asset(**arguments: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return `dg.asset(**arguments)`, whose overloads a type checker cannot tell apart here."""
    return cast(Callable[[Callable[..., Any]], dg.AssetsDefinition], dg.asset(**arguments))


def daily(spec: ProjectSpec, stage: str, kinds: set[str]) -> dict[str, Any]:
    """Return the arguments of `@dg.asset` for a stage with one table partition a day."""
    return _common(spec, stage, stage, f"{spec.name}_data", kinds) | {
        "partitions_def": daily_partitions(spec),
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "pool": DATA_POOL,
    }


def unpartitioned(
    spec: ProjectSpec, stage: str, kinds: set[str], *, group: str, name: str | None = None
) -> dict[str, Any]:
    """Return the arguments of `@dg.asset` for a stage that has no days."""
    return _common(spec, stage, name or stage, f"{spec.name}_{group}", kinds) | {"pool": MODEL_POOL}


def _common(
    spec: ProjectSpec, stage: str, name: str, group: str, kinds: set[str]
) -> dict[str, Any]:
    prefix = [spec.name, "adapters"] if stage == "adapters" and name != "shared_start" else None
    key = dg.AssetKey([*(prefix or [spec.name]), name])
    metadata: dict[str, Any] = {}
    if schema := column_schema(spec, stage):
        metadata["dagster/column_schema"] = schema
    if lineage := column_lineage(spec, stage):
        metadata["dagster/column_lineage"] = lineage
    return {
        "key": key,
        "group_name": group,
        "kinds": kinds,
        "owners": list(spec.owners),
        "tags": {"project": spec.name, "stage": stage},
        "metadata": metadata,
        "code_version": code_version(f"fm_platform.stages.{stage}"),
        "check_specs": check_specs(stage, key) or None,
    }
