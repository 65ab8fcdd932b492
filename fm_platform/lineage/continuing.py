"""From which adapter a training may go on: the newest one whose past is still what it was.

An adapter that was continued holds all that its parents were trained on. So it may be continued
only while every day that it covers holds what it held then, and while start, settings, code and
packages are those it was made with. Where a day of the past changed, the newest ancestor from
before that day is continued; where there is none, everything is trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta

from fm_platform.lineage import training_recipes
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input, Readable, Recipe
from fm_platform.spec.models import Expert, ProjectSpec

Past = Callable[[str], Sequence[ArtifactVersion]]
"""Expert -> its adapter in use and the ones that it goes on from, newest first."""


def no_past(_expert: str) -> Sequence[ArtifactVersion]:
    """Nothing is known of earlier adapters."""
    return ()


def anchor_day(spec: ProjectSpec, last: str) -> str:
    """Return the last day of a full retrain by the declared rhythm, up to `last`."""
    rhythm = spec.training.continuing
    if rhythm is None:
        return last
    passed = (date.fromisoformat(last) - spec.calendar.start).days
    return (spec.calendar.start + timedelta(passed - passed % rhythm.full_every)).isoformat()


def past_of(ledger: Ledger, project: str, expert: str, most: int) -> list[ArtifactVersion]:
    """Return the adapter in use and its ancestors, newest first, at most `most`."""
    held = ledger.latest(project, "adapter", expert)
    found: list[ArtifactVersion] = []
    while held is not None and len(found) < most:
        found.append(held)
        parent = parent_of(held)
        held = (
            None if parent is None or parent.version_id is None else ledger.get(parent.version_id)
        )
    return found


def parent_of(version: ArtifactVersion | Recipe) -> Input | None:
    """Return the input that a version goes on from; None: it was trained from the start."""
    return next((item for item in version.inputs if item.role == "parent"), None)


def continued_recipe(
    spec: ProjectSpec,
    expert: Expert,
    cleaned: Sequence[Readable],
    start: Readable,
    replay: Readable,
    past: Sequence[ArtifactVersion],
) -> Recipe:
    """Return the recipe of an adapter that goes on from one of `past`, where one fits.

    Args:
        spec: What is declared.
        expert: Whose adapter.
        cleaned: The days of the training window.
        start: The shared start.
        replay: The reservoir of the last day.
        past: The adapter in use and its ancestors, newest first.
    """
    full = training_recipes.adapter_recipe(spec, expert, cleaned, start)
    if past and (known := parent_of(past[0])) is not None:
        same = _going_on(full, known, replay)
        if same.hash == past[0].recipe_hash:
            return same
    if past and full.hash == past[0].recipe_hash:
        return full
    for version in past:
        if _fits(version, full):
            return _going_on(full, version.as_input("parent"), replay)
    return full


def _going_on(full: Recipe, parent: Input, replay: Readable) -> Recipe:
    return replace(full, inputs=(*full.inputs, parent, replay.as_input("replay")))


def _fits(version: ArtifactVersion, wanted: Recipe) -> bool:
    made = (version.code, version.environment, version.seed, dict(version.config))
    if made != (wanted.code, wanted.environment, wanted.seed, dict(wanted.config)):
        return False
    then, now = _days(version.inputs), _days(wanted.inputs)
    if not then or not now or _start(version.inputs) != _start(wanted.inputs):
        return False
    first, last = min(day for day, _ in now), max(day for day, _ in then)
    kept = {slot: content for slot, content in then.items() if slot[0] >= first}
    covered = {slot: content for slot, content in now.items() if slot[0] <= last}
    return kept == covered and len(covered) < len(now)


def _days(inputs: Sequence[Input]) -> dict[tuple[str, str], str]:
    return {
        (str(item.partition), str(item.part)): item.content_hash
        for item in inputs
        if item.role == "cleaned"
    }


def last_day(inputs: Sequence[Input]) -> str:
    """Return the last day that an adapter was trained on; empty where there is none."""
    return max((day for day, _ in _days(inputs)), default="")


def _start(inputs: Sequence[Input]) -> list[str]:
    return [item.content_hash for item in inputs if item.role == "start"]
