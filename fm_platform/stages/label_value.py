"""What each labeling function is worth to the label model of a day, as an artifact of that day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fm_platform.hashing import fingerprint
from fm_platform.labeling.candidates import Gold
from fm_platform.labeling.fitted import POOLED, LabelModelFit
from fm_platform.labeling.partial import ClassSets, Votes, renumber
from fm_platform.labeling.patterns import VoteCounter
from fm_platform.labeling.value import marginal_values
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.fingerprints import (
    TABLE_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.lineage.ledger import Lease
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.gold import gold_of
from fm_platform.stages.label_model import votes_of_day
from fm_platform.workspace import Workspace

KIND = "label_value"
_CODE = ("fm_platform.labeling.value", "fm_platform.stages.label_value")


def recorded_value(ws: Workspace, model: ArtifactVersion) -> list[dict[str, Any]] | None:
    """Return the value of every function as recorded for this very label model, or None."""
    found = ws.ledger.latest(model.project, KIND, KIND, model.partition)
    if found is None or found.location["label_model"] != model.content_hash:
        return None
    return [dict(value) for value in found.location["values"]]


def value_of_functions(
    ws: Workspace, spec: ProjectSpec, model: ArtifactVersion, run: RunContext
) -> ArtifactVersion:
    """Return the value of every function to a label model, fitting it without each where missing.

    Args:
        ws: Where the votes are.
        spec: The project.
        model: The label model, with its inputs.
        run: Who asks.
    """
    read = tuple(one for one in model.inputs if one.role in ("votes", "gold"))
    config = {
        "label_model": spec.labeling.label_model.model_dump(mode="json", exclude={"window_days"}),
        "functions": list(model.config["functions"]),
        "classes": list(spec.taxonomy.classes),
    }
    recipe = Recipe(
        project=spec.name, kind=KIND, name=KIND, partition=model.partition,
        inputs=(model.as_input("label_model"), *read), code=code_fingerprint(*_CODE),
        config=config, environment=environment_fingerprint((*TABLE_PACKAGES, "scikit-learn"), True),
    )  # fmt: skip

    def compute(lease: Lease) -> Produced:
        counters, gold = _window(ws, spec, model)
        fit = LabelModelFit.from_json(model.location["label_model"])
        names = list(model.config["functions"])
        settings = spec.labeling.label_model
        values = [v.to_json() for v in marginal_values(counters, gold, fit, names, settings)]
        told = {"label_model": model.content_hash, "values": values}
        return Produced(fingerprint(told), told, rows=len(values))

    return tables.build(ws, recipe, compute, run).version


def _window(
    ws: Workspace, spec: ProjectSpec, model: ArtifactVersion
) -> tuple[Mapping[str, VoteCounter], Gold]:
    """Return the votes that a label model was fitted on, counted, and its dev gold rows."""
    names, classes = list(model.config["functions"]), list(spec.taxonomy.classes)
    wanted = [i.version_id for i in model.inputs if i.role == "votes" and i.version_id is not None]
    votes = ws.ledger.get_many(wanted, with_inputs=False)
    days = sorted({str(version.partition) for version in votes})
    gold = gold_of(ws, spec, str(model.partition))
    counters = {POOLED: VoteCounter(len(names), len(classes))}
    known: list[tuple[Votes, ClassSets, list[str], list[str]]] = []
    for day in days:
        raw = ws.ledger.latest(spec.name, "raw", "raw", day)
        if raw is None:
            continue
        own = {version.name: version for version in votes if version.partition == day}
        sources = tables.read(ws, raw, "raw", ["source"])["source"].to_pylist()
        matrix, sets, ids = votes_of_day(ws, [own[name] for name in names], len(sources))
        counters[POOLED].add(matrix, sets)
        if spec.labeling.label_model.per_source:
            every = np.array(sources, dtype=object)
            for name in sorted(set(sources)):
                counter = counters.setdefault(name, VoteCounter(len(names), len(classes)))
                counter.add(matrix[every == name], sets)
        todays = gold.filter(pc.equal(gold["day"], day))
        if ids is not None and todays.num_rows:
            spots = pc.index_in(todays["row_id"], value_set=ids.combine_chunks())
            there = todays.filter(pc.is_valid(spots))
            spot = spots.drop_null().to_numpy()
            known.append(
                (matrix[spot], sets, [sources[i] for i in spot.tolist()],
                 there["label"].to_pylist())
            )  # fmt: skip
    return counters, _gold(known, len(names), classes, counters[POOLED].sets)


def _gold(
    known: list[tuple[Votes, ClassSets, list[str], list[str]]],
    functions: int,
    classes: list[str],
    book: ClassSets,
) -> Gold:
    votes = [renumber(own, sets, book) for own, sets, _, _ in known]
    return Gold(
        np.concatenate(votes) if votes else np.zeros((0, functions), np.int8),
        np.array([classes.index(x) for _, _, _, labels in known for x in labels], np.int8),
        [name for _, _, names, _ in known for name in names],
        book,
    )
