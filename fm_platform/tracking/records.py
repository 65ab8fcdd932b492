"""What is told to MLflow, as plain records that can wait in a spool.

A record is named by its kind, project and recipe hash: the same record published twice is
published once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fm_platform.errors import TrackingError
from fm_platform.hashing import fingerprint

CHAMPION = "champion"
CHALLENGER = "challenger"
CANARY = "canary"

Scalar = str | int | float | bool


@dataclass(frozen=True)
class DataInput:
    """A table partition or model that something was made from.

    Attributes:
        name: e.g. `cleaned/2026-01-03`.
        content_hash: Of its logical rows or files, 64 hex digits.
        context: What it was used for: `training`, `merging`, `evaluation`.
        source: Where it is (table, version), JSON values; no secrets, no paths of a machine.
        rows: Number of rows, where known.
    """

    name: str
    content_hash: str
    context: str = "training"
    source: Mapping[str, Scalar] = field(default_factory=dict)
    rows: int | None = None


@dataclass(frozen=True)
class Record:
    """What all records share.

    Attributes:
        project: Project name: the experiment and the registered model are called so.
        recipe_hash: Of the artifact.
        content_hash: Of the artifact.
        started_ms: When its computation began, ms since 1970 UTC.
        ended_ms: When it ended.
        params: Settings; values are shortened to 500 characters.
        metrics: Name (`tweets/f1_weighted`) to value; non-finite ones are left out and named in
            a tag.
        tags: e.g. `dagster/run_id`, `git_sha`.
        inputs: What it was made from.
    """

    kind: ClassVar[str] = ""

    project: str
    recipe_hash: str
    content_hash: str
    started_ms: int
    ended_ms: int
    params: Mapping[str, Scalar] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[DataInput, ...] = ()

    @property
    def key(self) -> str:
        """Name of the record: 64 hex digits."""
        return record_key(self.kind, self.project, self.recipe_hash)


@dataclass(frozen=True)
class TrainingRecord(Record):
    """One trained expert (or the shared start).

    Attributes:
        name: Expert name.
        history: Curve name (`train_loss`) to (step, value) pairs.
    """

    kind: ClassVar[str] = "training"

    name: str = ""
    history: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRecord(Record):
    """One merged model, to be logged and registered as `challenger`.

    Attributes:
        model_dir: Verified folder with `config.json`, `model.safetensors`, tokenizer, README.
        task: Pipeline task of transformers.
        description: Markdown for the model version; row text in it must be inert already.
    """

    kind: ClassVar[str] = "model"

    model_dir: str = ""
    task: str = "text-classification"
    description: str = ""


@dataclass(frozen=True)
class EvaluationRecord(Record):
    """One evaluation of a merged model.

    Attributes:
        model_recipe_hash: Recipe of the merged model; the metrics are tied to it.
        table: JSON of the evaluation table.
        markdown: The table for people.
        files: Artifact name to local file, e.g. the HTML report.
        images: Artifact name to PNG bytes.
    """

    kind: ClassVar[str] = "evaluation"

    model_recipe_hash: str = ""
    table: Mapping[str, Any] = field(default_factory=dict)
    markdown: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ChampionRecord:
    """The merged model of a recipe becomes champion."""

    kind: ClassVar[str] = "champion"

    project: str
    recipe_hash: str
    reason: str = ""

    @property
    def key(self) -> str:
        """Name of the record: 64 hex digits."""
        return record_key(self.kind, self.project, self.recipe_hash)


@dataclass(frozen=True)
class DecisionRecord:
    """What was decided about the merged model of a recipe, with the numbers that decided.

    Attributes:
        decision: `promotion`, `refusal`, `canary`, `waiting` while another model is a canary,
            `rollback`, or `taken_back` for the model that a rollback took out of use.
        numbers: JSON values, those of the ledger.
        sets / drops: An alias that names this model from now on, or no longer.
    """

    kind: ClassVar[str] = "decision"

    project: str
    recipe_hash: str
    decision: str
    reason: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    sets: str = ""
    drops: str = ""

    @property
    def key(self) -> str:
        """Name of the record: 64 hex digits."""
        told = [self.decision, self.reason, dict(self.numbers)]
        return record_key(self.kind, self.project, fingerprint([self.recipe_hash, told]))


AnyRecord = TrainingRecord | ModelRecord | EvaluationRecord | ChampionRecord | DecisionRecord
_KINDS: dict[str, type[AnyRecord]] = {
    cls.kind: cls
    for cls in (TrainingRecord, ModelRecord, EvaluationRecord, ChampionRecord, DecisionRecord)
}


def record_key(kind: str, project: str, recipe_hash: str) -> str:
    """Return the name of the record of one artifact, the tag by which MLflow finds it again."""
    return fingerprint([kind, project, recipe_hash])


def to_json(record: AnyRecord) -> dict[str, Any]:
    """Return the record as JSON values."""
    value: dict[str, Any] = {"kind": record.kind}
    for name, item in vars(record).items():
        if name == "inputs":
            value[name] = [dict(vars(data), source=dict(data.source)) for data in item]
        elif name == "images":
            value[name] = {k: base64.b64encode(v).decode("ascii") for k, v in item.items()}
        elif isinstance(item, Mapping):
            value[name] = dict(item)
        else:
            value[name] = item
    return value


def from_json(value: Mapping[str, Any]) -> AnyRecord:
    """Return the record that `to_json` wrote.

    Raises:
        TrackingError: If it is no record.
    """
    fields = dict(value)
    try:
        cls = _KINDS[fields.pop("kind")]
        if "inputs" in fields:
            fields["inputs"] = tuple(DataInput(**data) for data in fields["inputs"])
        if "images" in fields:
            fields["images"] = {k: base64.b64decode(v) for k, v in fields["images"].items()}
        if "history" in fields:
            fields["history"] = {
                name: tuple((int(step), float(loss)) for step, loss in points)
                for name, points in fields["history"].items()
            }
        return cls(**fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrackingError("this is no record for MLflow", found=repr(error)) from error
