"""What differs between two recipes beside recorded inputs, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fm_platform.lineage.records import ArtifactVersion, Input
from fm_platform.stages.diff.settings import Leaf, environment_leaves, leaves

Ids = tuple[int | None, int | None]
"""Ids of two versions that are compared; None where a history has no such version."""

Key = tuple[str, str, str | None, str | None]
_SHOWN = 3
_VALUE_CHARS = 48


def input_told(either: Input, old: Input | None, new: Input | None) -> str:
    """Say how an input that no version holds differs, or another champion."""
    named = "base model" if either.role == "base_model" else f"{either.role} {either.name}"
    if either.role == "champion":
        named = "the champion it was compared with"
    if old is None or new is None:
        return f"{named} {'is new' if old is None else 'is gone'}"
    return f"{named} changed ({old.content_hash[:12]} -> {new.content_hash[:12]})"


def own_told(
    before: ArtifactVersion, after: ArtifactVersion, describe: Callable[[str], Any]
) -> list[str]:
    """Return what differs beside the inputs, in words."""
    told = []
    differing = list(leaves(before.config, after.config))
    if after.kind == "votes" and any(leaf.path == "function" for leaf in differing):
        told.append("labeling function changed")
        differing = [leaf for leaf in differing if leaf.path != "function"]
    if differing:
        told.append(f"configuration changed ({_listed(differing)})")
    if before.code != after.code:
        left, right = describe(before.code), describe(after.code)
        names = []
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            names = sorted(n for n in {*left, *right} if left.get(n) != right.get(n))
        told.append("platform code changed" + (f" ({_some(names)})" if names else ""))
    if before.environment != after.environment:
        found = environment_leaves(describe(before.environment), describe(after.environment))
        told.append("environment changed" + (f" ({_listed(found)})" if found else ""))
    if before.seed != after.seed:
        told.append(f"seed changed ({before.seed} -> {after.seed})")
    return told


def _listed(found: list[Leaf]) -> str:
    return _some([f"{path}: {_short(old)} -> {_short(new)}" for path, old, new in found])


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def keyed(version: ArtifactVersion) -> dict[Key, Input]:
    """Return the inputs by what they are; the own day counts as the same day."""
    return {
        (i.role, i.name, "own" if i.partition == version.partition else i.partition, i.part): i
        for i in version.inputs
    }
