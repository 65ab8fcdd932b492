"""Going on from yesterday's adapter: the reservoir of each day, then new rows with old ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import MissingArtifactError, TrainingError
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.continuing import (
    anchor_day,
    continued_recipe,
    last_day,
    parent_of,
    past_of,
)
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import CARRY_DAYS
from fm_platform.lineage.training_recipes import replay_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import Expert, ProjectSpec
from fm_platform.spec.training import Continue
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.stages.models import rows_of, step_reporter
from fm_platform.stages.window import window
from fm_platform.training.base_model import BaseModel
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.train import TrainedExpert


@dataclass(frozen=True)
class GoingOn:
    """One training that goes on.

    Attributes:
        parent: The adapter it goes on from.
        full: The adapter of the last full training.
        new: The days that the parent was not trained on.
        replay: The reservoir of the last day.
    """

    parent: ArtifactVersion
    full: ArtifactVersion
    new: tuple[ArtifactVersion, ...]
    replay: ArtifactVersion


def start_days(
    ws: Workspace, spec: ProjectSpec, days: Sequence[ArtifactVersion]
) -> list[ArtifactVersion]:
    """Return the days that the shared start is trained on: up to the last full retrain."""
    if spec.training.continuing is None:
        return list(days)
    anchor = anchor_day(spec, str(days[-1].partition))
    held = window(ws, spec, "cleaned", "cleaned", anchor, spec.training.window_days)
    return held if any(day.rows for day in held) else list(days)


def recipe_of(
    ws: Workspace,
    spec: ProjectSpec,
    expert: Expert,
    days: Sequence[ArtifactVersion],
    start: ArtifactVersion,
    run: RunContext,
) -> tuple[Recipe, GoingOn | None]:
    """Return the recipe of an adapter where `continue` is declared, and what it goes on from."""
    rhythm = _declared(spec)
    replay = build_replay(ws, spec, days, run)
    past = past_of(ws.ledger, spec.name, expert.name, rhythm.full_every + 1)
    recipe = continued_recipe(spec, expert, days, start, replay, past)
    found = parent_of(recipe)
    if found is None or found.version_id is None:
        return recipe, None
    parent = ws.ledger.get(found.version_id)
    full = next((v for v in [parent, *past[past.index(parent) :]] if _was_full(v)), parent)
    new = tuple(day for day in days if str(day.partition) > last_day(parent.inputs))
    return recipe, GoingOn(parent, full, new, replay)


def _was_full(version: ArtifactVersion) -> bool:
    return not version.metrics.get("numbers", {}).get("continued")


def build_replay(
    ws: Workspace, spec: ProjectSpec, days: Sequence[ArtifactVersion], run: RunContext
) -> ArtifactVersion:
    """Return the reservoir of the last of `days`; only days that changed are looked at again.

    Raises:
        MissingArtifactError: If there is no day.
    """
    if not days:
        raise MissingArtifactError("there is no cleaned day to keep rows of")
    first, last = str(days[0].partition), str(days[-1].partition)
    held = ws.ledger.latest_of_days(
        spec.name, "replay", "replay", _days_before(first, CARRY_DAYS), last
    )
    known = {str(version.partition): version for version in held}
    inputs = ws.ledger.inputs([version.id for version in held])
    before: ArtifactVersion | None = None
    for version in held:
        if str(version.partition) < first:
            before = version
    for day in days:
        name = str(day.partition)
        now = known.get(name)
        recipe = replay_recipe(spec, day, _near(before, name))
        contents = sorted(i.line for i in recipe.inputs)
        made = (recipe.code, recipe.environment, dict(recipe.config))
        settled = now is not None and (now.code, now.environment, dict(now.config)) == made
        if now is None or not settled or sorted(i.line for i in inputs[now.id]) != contents:
            now = _build_day(ws, spec, recipe, day, _near(before, name), run)
        before = now
    assert before is not None  # noqa: S101  there is a day
    ws.columns.verify(str(before.location["column"]))
    return before


def _near(before: ArtifactVersion | None, day: str) -> ArtifactVersion | None:
    if before is None or str(before.partition) < _days_before(day, CARRY_DAYS):
        return None
    return before


def _build_day(
    ws: Workspace,
    spec: ProjectSpec,
    recipe: Recipe,
    day: ArtifactVersion,
    before: ArtifactVersion | None,
    run: RunContext,
) -> ArtifactVersion:
    def compute(_lease: Lease) -> Produced:
        from fm_platform.training.reservoir import updated

        held = None if before is None else ws.columns.get(str(before.location["column"]))
        rows = tables.read(ws, day, "cleaned")
        kept = updated(held, rows, _declared(spec).reservoir_rows, spec.training.seed)
        content = ws.columns.put(kept.combine_chunks())
        return Produced(content, {"column": content}, kept.num_rows, kept.nbytes)

    return tables.build(ws, recipe, compute, run).version


def train_on(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    going_on: GoingOn,
    base: BaseModel,
    expert: Expert,
    folder: Path,
) -> TrainedExpert | None:
    """Train the parent on its new rows and replayed ones; None where it falls behind.

    It falls behind if on the dev rows of the reservoir it agrees with the weak labels less often
    than the last full training does, by more than the declared margin.

    Raises:
        NonFiniteLossError: At the first loss or gradient that is not finite.
    """
    from fm_platform.training.reservoir import replayed
    from fm_platform.training.targets import sharpened
    from fm_platform.training.variants import train_expert_as

    spec, rhythm = project.spec, _declared(project.spec)
    new = rows_of(ws, going_on.new, "train", expert.sources)
    if not new.num_rows:  # the new days brought dev rows only
        return None
    held = ws.columns.get(str(going_on.replay.location["column"]))
    picked = sorted(_permutation(spec, new.num_rows)[: spec.training.max_rows].tolist())
    new = new.take(pa.array(picked))
    count = round(rhythm.replay * new.num_rows)
    old = replayed(held, count, expert.sources, new, str(going_on.replay.partition))
    rows = pa.concat_tables([new, old.select(new.column_names)], promote_options="default")
    dev = held.filter(
        pc.and_(
            pc.equal(held["split"], "dev"),
            pc.is_in(held["source"], value_set=pa.array(sorted(expert.sources), pa.string())),
        )
    )
    config = spec.training.model_copy(update={"max_rows": max(rows.num_rows, 1)})
    power = spec.training.target_power
    rows, dev = sharpened(rows, power), sharpened(dev, power)
    trained = train_expert_as(
        rows, dev, base, ws.model_path(going_on.parent), config, spec.taxonomy.classes, folder,
        step_reporter(log, f"expert {expert.name}, going on"),
        _states(ws, project, run, log, going_on, rows, dev),
    )  # fmt: skip
    told = {
        "continued": 1, "new_rows": new.num_rows, "replayed_rows": old.num_rows,
        **_agreements(ws, base, spec, dev, trained.directory, going_on.full),
    }  # fmt: skip
    if _behind(told, rhythm):
        log.info(
            f"{expert.name}: going on agrees with {told['dev_agreement']:.3f} of the dev rows, the "
            f"last full training with {told['dev_agreement_full']:.3f}: trained in full"
        )
        return None
    return replace(trained, metrics={**trained.metrics, **told})


def _behind(told: Mapping[str, Any], rhythm: Continue) -> bool:
    if "dev_agreement" not in told:
        return False
    lost = float(told["dev_agreement_full"]) - float(told["dev_agreement"])
    return lost > rhythm.margin / 100


def _agreements(
    ws: Workspace,
    base: BaseModel,
    spec: ProjectSpec,
    dev: pa.Table,
    trained: Path,
    full: ArtifactVersion,
) -> dict[str, float]:
    """Return how often the adapter and the last full one agree with the weak dev labels."""
    from fm_platform.training.predict import load_adapter, predict_probabilities

    if not dev.num_rows:
        return {}
    truth = np.array([spec.taxonomy.classes.index(label) for label in dev["label"].to_pylist()])
    found = {}
    for name, path in (("dev_agreement", trained), ("dev_agreement_full", ws.model_path(full))):
        told = predict_probabilities(
            load_adapter(base, path), dev["text"].to_pylist(), max_tokens=spec.training.max_tokens
        )
        found[name] = round(float((told.argmax(axis=1) == truth).mean()), 6)
    return found


def _states(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    going_on: GoingOn,
    rows: pa.Table,
    dev: pa.Table,
) -> Any:
    """Return the states of frozen layers for these rows; None where no layer is frozen."""
    frozen = project.spec.training.frozen_layers
    if not frozen:
        return None
    from fm_platform.stages.activations import Activations

    activations = Activations(ws, project, run, log, frozen)
    texts = [*rows["text"].to_pylist(), *dev["text"].to_pylist()]
    return activations.with_texts(activations.of_days(going_on.new), texts)


def _permutation(spec: ProjectSpec, count: int) -> Any:
    return np.random.default_rng([spec.training.seed, 4]).permutation(count)


def _declared(spec: ProjectSpec) -> Continue:
    if spec.training.continuing is None:
        raise TrainingError("the project declares no training that goes on")
    return spec.training.continuing


def _days_before(day: str, count: int) -> str:
    return (date.fromisoformat(day) - timedelta(days=count)).isoformat()
