"""The way of one row along recorded inputs, from its prediction down; see `stages.trace`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import FMError
from fm_platform.labeling.partial import ABSTAIN, ClassSets
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import prediction_id, resolve, version_name
from fm_platform.stages import tables
from fm_platform.workspace import Workspace


def evaluation_of(
    ws: Workspace, project: str, model: str | None, at: datetime | None
) -> tuple[ArtifactVersion | None, str]:
    """Return the evaluation that asked a model, and the name of the model as a system of it."""
    ledger = ws.ledger
    if model is None:
        version = ledger.alias(project, "champion", at=at)
        if version is None:
            return next(_evaluations(ledger, project, at), None), "merged_model"
    else:
        version = resolve(ledger, project, model, at)
    role = "adapter" if version.kind == "adapter" else "merged_model"
    system = f"expert:{version.name}" if role == "adapter" else "merged_model"
    for candidate in _evaluations(ledger, project, at):
        for item in candidate.inputs:
            if item.role == role and item.content_hash == version.content_hash:
                return candidate, system
    if model is not None and keeps_predictions(version):
        raise FMError(
            f"{version_name(version)} was never evaluated",
            next_step=f"fm run {project}, or name another model",
        )
    return None, system


def keeps_predictions(version: ArtifactVersion) -> bool:
    """Whether evaluations of its project tell the prediction of each row: not of causal models."""
    return version.config.get("task") != "causal"


def _evaluations(ledger: Ledger, project: str, at: datetime | None) -> Iterator[ArtifactVersion]:
    """Yield the evaluation in use, then all made by then, newest first."""
    used = ledger.latest(project, "evaluation", "evaluation", at=at)
    if used is not None and keeps_predictions(used):
        yield used
    for made in reversed(ledger.versions(project, "evaluation")):
        if keeps_predictions(made) and (at is None or made.created_at <= at):
            yield ledger.get(made.id)


def model_of(evaluation: ArtifactVersion, system: str) -> str:
    """Return the content hash of the model that is a system of an evaluation."""
    role, _, name = system.partition(":")
    for item in evaluation.inputs:
        if (role == "expert" and item.role == "adapter" and item.name == name) or item.role == role:
            return item.content_hash
    return ""


def holds(rows: pa.Table, row_id: str) -> bool:
    """Whether a table has a row of this id."""
    return bool(pc.any(pc.equal(rows["row_id"], row_id)).as_py())


def row_of(rows: pa.Table, row_id: str) -> dict[str, Any] | None:
    """Return the row of this id, or None."""
    found = rows.filter(pc.equal(rows["row_id"], row_id)).to_pylist()
    return dict(found[0]) if found else None


def _named(version: ArtifactVersion) -> dict[str, Any]:
    return {
        "reference": version_name(version),
        "content_hash": version.content_hash,
        "version_id": version.id,
        "git_commit": version.git_commit,
    }


@dataclass(frozen=True)
class RowTrace:
    """The way of one row, from its prediction down."""

    ws: Workspace
    raw_in_use: ArtifactVersion
    row_id: str
    model: str | None
    at: datetime | None

    @property
    def project(self) -> str:
        """Of the row."""
        return self.raw_in_use.project

    @property
    def day(self) -> str:
        """Of the row."""
        return str(self.raw_in_use.partition)

    @cached_property
    def evaluated(self) -> tuple[ArtifactVersion | None, str]:
        """The evaluation that asked the model, and what the model is called there."""
        return evaluation_of(self.ws, self.project, self.model, self.at)

    @cached_property
    def prediction(self) -> dict[str, Any] | None:
        """The row of the predictions table; None for a row that no evaluation asked."""
        evaluation, system = self.evaluated
        if evaluation is None:
            return None
        rows = tables.read(self.ws, evaluation, "predictions")
        return row_of(rows.filter(pc.equal(rows["system"], system)), self.row_id)

    @cached_property
    def models(self) -> list[ArtifactVersion]:
        """The model that is asked about, and its adapters."""
        ledger = self.ws.ledger
        if self.model is not None:
            asked: ArtifactVersion | None = resolve(ledger, self.project, self.model, self.at)
        else:
            asked = ledger.alias(self.project, "champion", at=self.at)
            asked = asked or ledger.latest(self.project, "merged_model", "merged_model", at=self.at)
        if asked is None:
            return []
        return [asked, *self._read_by(asked, "adapter")]

    @cached_property
    def weak_labels(self) -> ArtifactVersion | None:
        """The weak labels that were evaluated or trained on; those in use where neither was."""
        evaluation, _ = self.evaluated
        if self.prediction is not None and evaluation is not None:
            return self._one(evaluation, "weak_labels", self.day)
        if self.cleaned is not None:
            return self._one(self.cleaned, "weak_labels", self.day)
        return self.ws.ledger.latest(
            self.project, "weak_labels", "weak_labels", self.day, at=self.at
        )

    @cached_property
    def cleaned(self) -> ArtifactVersion | None:
        """The cleaned rows of the day that an adapter was trained on; else those in use."""
        for model in self.models:
            found = self._one(model, "cleaned", self.day)
            if found is not None:
                return found
        return self.ws.ledger.latest(self.project, "cleaned", "cleaned", self.day, at=self.at)

    @cached_property
    def raw(self) -> ArtifactVersion:
        """The raw version that the weak labels were made from."""
        found = None if self.weak_labels is None else self._one(self.weak_labels, "raw", self.day)
        return found or self.ws.ledger.get(self.raw_in_use.id)

    def _read_by(self, version: ArtifactVersion, role: str) -> list[ArtifactVersion]:
        ids = {i.version_id for i in version.inputs if i.role == role and i.version_id is not None}
        return self.ws.ledger.get_many(sorted(ids))

    def _one(self, version: ArtifactVersion, role: str, day: str | None) -> ArtifactVersion | None:
        for item in version.inputs:
            if item.role == role and item.partition == day and item.version_id is not None:
                return self.ws.ledger.get(item.version_id)
        return None

    # --- what is told -----------------------------------------------------------------------

    def told(self) -> dict[str, Any]:
        """Return the whole way as JSON values."""
        return {
            "project": self.project,
            "at": self.at.isoformat() if self.at else None,
            "trained_on": self._trained_on,
            "row": self._told_row(),
            "prediction": self._told_prediction(),
            "model": self._told_model(),
            "adapters": self._told_adapters(),
            "cleaned": self._told_cleaned(),
            "weak_labels": self._told_weak_labels(),
            "votes": self._told_votes(),
            "label_model": self._told_label_model(),
            "raw": self._told_raw(),
            "source": self._told_source(),
            "definition": self._told_definition(),
        }

    @cached_property
    def _raw_row(self) -> dict[str, Any]:
        found = row_of(tables.read(self.ws, self.raw, "raw"), self.row_id)
        return found or row_of(tables.read(self.ws, self.raw_in_use, "raw"), self.row_id) or {}

    def _told_row(self) -> dict[str, Any]:
        return {**self._raw_row, "row_id": self.row_id}

    def _told_prediction(self) -> dict[str, Any] | None:
        evaluation, system = self.evaluated
        found = self.prediction
        if found is None or evaluation is None:
            return None
        return {
            "prediction_id": prediction_id(model_of(evaluation, system), self.row_id),
            "system": system,
            "label": found["label"],
            "gold": found["gold"],
            "probabilities": self._by_class(found["probabilities"], evaluation),
            "evaluation": _named(evaluation),
        }

    @property
    def _trained_on(self) -> str:
        """The table that adapters read: a causal project labels and cleans nothing."""
        return "raw" if self.models and not keeps_predictions(self.models[0]) else "cleaned"

    def _told_model(self) -> dict[str, Any] | None:
        if not self.models:
            return None
        model = self.models[0]
        aliases = self.ws.ledger.aliases(self.project, at=self.at)
        base = [i.content_hash for i in model.inputs if i.role == "base_model"]
        return {
            **_named(model),
            "aliases": sorted(name for name, i in aliases.items() if i == model.id),
            "base_model": base[0] if base else None,
        }

    def _told_adapters(self) -> list[dict[str, Any]]:
        if not self.models:
            return []
        model, *adapters = self.models
        weights = model.metrics.get("weights", {})
        told = []
        for adapter in adapters:
            days = [i for i in adapter.inputs if i.role == self._trained_on]
            mine = [i for i in days if i.part == self._raw_row.get("source")]
            told.append(
                {
                    **_named(adapter),
                    "weight": weights.get(adapter.name),
                    "sources": sorted({i.part for i in days if i.part}),
                    "trained_on": [
                        {"day": i.partition, "part": i.part, "content_hash": i.content_hash}
                        for i in days
                    ],
                    "reads_this_source": bool(mine),
                }
            )
        return told

    def _told_cleaned(self) -> dict[str, Any]:
        if self.cleaned is None:
            return {"what": "no cleaned rows of that day"}
        told = _named(self.cleaned)
        if self._raw_row.get("split") == "test":
            what = "held out: a test row is in no training table"
            return {**told, "what": what}
        kept = row_of(tables.read(self.ws, self.cleaned, "cleaned"), self.row_id)
        notes = tables.read(self.ws, self.cleaned, "quarantine")
        notes = notes.filter(pc.equal(notes["row_id"], self.row_id))
        changes = [
            {key: note[key] for key in ("rule", "reason", "column", "before", "after", "removed")}
            for note in notes.to_pylist()
        ]
        what = "kept" if kept else "removed"
        return {**told, "what": what, "label": kept["label"] if kept else None, "rules": changes}

    @cached_property
    def _weak_row(self) -> dict[str, Any]:
        if self.weak_labels is None:
            return {}
        return row_of(tables.read(self.ws, self.weak_labels, "weak_labels"), self.row_id) or {}

    def _told_weak_labels(self) -> dict[str, Any] | None:
        if self.weak_labels is None:
            return None
        row = self._weak_row
        return {
            **_named(self.weak_labels),
            "label": row.get("label"),
            "confidence": row.get("confidence"),
            "probabilities": self._by_class(row.get("probabilities"), self.weak_labels),
        }

    def _told_votes(self) -> list[dict[str, Any]]:
        if self.weak_labels is None:
            return []
        classes = self.weak_labels.config.get("classes", [])
        votes = dict(
            zip(
                self.weak_labels.config.get("functions", []), self._weak_row.get("votes") or [],
                strict=False,
            )
        )  # fmt: skip
        sets = ClassSets.of(self.weak_labels.metrics.get("class_sets", []))
        told = []
        for version in self._read_by(self.weak_labels, "votes"):
            vote = votes.get(version.name, ABSTAIN)
            fingerprint = str(version.config.get("function", ""))
            function = self.ws.ledger.document(fingerprint) or {}
            told.append(
                {
                    **_named(version),
                    "function": version.name,
                    "vote": sets.names(vote, classes),
                    "fingerprint": fingerprint,
                    "kind": function.get("kind"),
                    "source": function.get("source"),
                }
            )
        return sorted(told, key=lambda vote: (vote["vote"] is None, vote["function"]))

    def _told_label_model(self) -> dict[str, Any] | None:
        if self.weak_labels is None:
            return None
        model = self._one(self.weak_labels, "label_model", self.day)
        return _named(model) if model else None

    def _told_raw(self) -> dict[str, Any]:
        ref = self.raw.location.get("tables", {}).get("raw", {})
        return {
            **_named(self.raw),
            "table": ref.get("table"),
            "delta_version": ref.get("version"),
            "files": [
                {"path": file["path"], "sha256": file["sha256"]} for file in ref.get("files", ())
            ],
        }

    def _told_source(self) -> dict[str, Any] | None:
        name = self._raw_row.get("source")
        for item in self.raw.inputs:
            if item.role == "source" and item.name == name:
                known = self.ws.ledger.document(item.content_hash) or {}
                declared = self.raw.config.get("sources", {}).get(name, {})
                return {
                    "name": name,
                    "content_hash": item.content_hash,
                    "connector": declared.get("connector"),
                    "options": declared.get("options"),
                    "files": known.get("files"),
                }
        return None

    def _told_definition(self) -> dict[str, Any] | None:
        evaluation, _ = self.evaluated
        made = evaluation or (self.models[0] if self.models else self.raw)
        spec = self.ws.ledger.latest(self.project, "spec", "spec", at=made.created_at)
        return _named(spec) if spec else None

    def _by_class(
        self, values: Sequence[float] | None, version: ArtifactVersion
    ) -> dict[str, float]:
        classes = version.config.get("classes", [])
        return {c: round(float(v), 6) for c, v in zip(classes, values or [], strict=False)}
