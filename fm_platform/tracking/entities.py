"""How a record looks as MLflow's tags, metrics, inputs and file names, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fm_platform.display import plain
from fm_platform.store.files import safe_name
from fm_platform.tracking.records import EvaluationRecord, ModelRecord, Record, TrainingRecord

KEY_TAG = "fm.key"
COMPLETE_TAG = "fm.complete"
VALUE_CHARS = 500
DIGEST_CHARS = 32
"""MLflow takes 36 at most; the whole hash stands in a tag."""


@dataclass(frozen=True)
class Published:
    """What MLflow knows of a record.

    Attributes:
        run_id: Run, or None (spooled, or a record without a run).
        model_id: Logged model, or None.
        version: Version of the registered model, or None.
        spooled: True where the record waits for the server.
        reason: Why it was spooled or refused; empty otherwise.
        links: Title -> address of the MLflow pages.
    """

    run_id: str | None = None
    model_id: str | None = None
    version: str | None = None
    spooled: bool = False
    reason: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


def run_name(record: Record) -> str:
    """Return the name of a run as the pages of MLflow show it."""
    if isinstance(record, TrainingRecord):
        return f"train {record.name}"
    return (
        f"{'merge' if isinstance(record, ModelRecord) else 'evaluate'} {record.content_hash[:12]}"
    )


def file_name(title: str, suffix: str) -> str:
    """Return the artifact's file name; without its ending the pages of MLflow show nothing."""
    name = safe_name(Path(title).name)
    return name if Path(name).suffix else name + suffix


def tags(record: Record) -> dict[str, str]:
    """Return the tags of whatever is created for a record."""
    found = {name: plain(value, VALUE_CHARS) for name, value in sorted(record.tags.items())}
    found.update(
        {
            KEY_TAG: record.key,
            "fm.kind": record.kind,
            "fm.project": record.project,
            "fm.recipe_hash": record.recipe_hash,
            "fm.content_hash": record.content_hash,
        }
    )
    if isinstance(record, TrainingRecord):
        found["fm.expert"] = record.name
    if isinstance(record, EvaluationRecord):
        found["fm.model_recipe_hash"] = record.model_recipe_hash
    for data in record.inputs:
        found[f"fm.input.{data.name}"[:250]] = data.content_hash
    return found


def points(record: Record) -> list[tuple[str, int, float]]:
    """Return (metric, step, value) of a record, curves included."""
    found = [(name, 0, value) for name, value in sorted(record.metrics.items())]
    if isinstance(record, TrainingRecord):
        for name, curve in sorted(record.history.items()):
            found += [(name, step, value) for step, value in curve]
    return found


def dataset_inputs(record: Record) -> list[Any]:
    """Return the inputs of a record as MLflow's DatasetInput: our content hash is the digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for data in record.inputs:
        source = {**data.source, "content_hash": data.content_hash}
        profile = None if data.rows is None else json.dumps({"num_rows": data.rows})
        dataset = Dataset(
            name=data.name,
            digest=data.content_hash[:DIGEST_CHARS],
            source_type="fm",
            source=json.dumps(source, sort_keys=True),
            profile=profile,
        )
        tags = [
            InputTag("mlflow.data.context", data.context),
            InputTag("fm.content_hash", data.content_hash),
        ]
        inputs.append(DatasetInput(dataset, tags))
    return inputs
