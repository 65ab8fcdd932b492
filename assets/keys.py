"""Asset keys of a project, and what belongs to which part of the chain."""

from __future__ import annotations

import dagster as dg

from fm_platform.spec import ProjectSpec

UP_TO_DATE = "up_to_date"
"""The check that an artifact is what is wanted now; it has a job of its own."""
WATCH = "watch"
"""The daily asset that compares each day with what the champion was trained on."""
DAILY_STAGES = ("raw", "weak_labels", "cleaned")
MODEL_STAGES = ("adapters", "merged_model", "evaluation")
STAGES = (*DAILY_STAGES, *MODEL_STAGES)


def stage_key(spec: ProjectSpec, stage: str) -> dg.AssetKey:
    """Return the key of a stage that is one asset, e.g. `[sentiment, raw]`."""
    return dg.AssetKey([spec.name, stage])


def start_key(spec: ProjectSpec) -> dg.AssetKey:
    """Return the key of the label head that all experts start from."""
    return stage_key(spec, "shared_start")


def stage_of(key: dg.AssetKey) -> str:
    """Return the stage that an asset belongs to."""
    return "adapters" if key.path[1] == "shared_start" else key.path[1]


def expert_key(spec: ProjectSpec, expert: str) -> dg.AssetKey:
    """Return the key of one adapter, e.g. `[sentiment, adapters, tweets]`."""
    return dg.AssetKey([spec.name, "adapters", expert])


def expert_keys(spec: ProjectSpec) -> list[dg.AssetKey]:
    """Return the keys of all adapters in declared order."""
    return [expert_key(spec, expert.name) for expert in spec.experts]


def keys_of_stages(spec: ProjectSpec, stages: tuple[str, ...] | list[str]) -> list[dg.AssetKey]:
    """Return all asset keys of `stages`, upstream first; `adapters` includes the shared start."""
    keys: list[dg.AssetKey] = []
    for stage in stages_of_project(spec):
        if stage in stages:
            start = [start_key(spec)] if spec.task == "classification" else []
            keys += (
                [*start, *expert_keys(spec)] if stage == "adapters" else [stage_key(spec, stage)]
            )
    return keys


def stages_of_project(spec: ProjectSpec) -> tuple[str, ...]:
    """Return the stages that a project has: a causal one labels and cleans nothing."""
    return STAGES if spec.task == "classification" else ("raw", *MODEL_STAGES)
