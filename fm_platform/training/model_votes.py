"""Another model's prediction as a vote: a trained classifier that lies in a folder.

Its weights count by their hash, and what it said of a text is kept: a second run asks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import LabelingError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.partial import encode
from fm_platform.labeling.vocabulary import answers, members
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.training.answered import Keep, Row, model_of, remembered, rows_of
from fm_platform.training.base_model import BaseModel
from fm_platform.training.predict import Classifier, load_classifier, predict_probabilities

_AT_ONCE = 1024
"""Rows whose predictions are kept together: an interruption loses that many."""


@KINDS.register("model")
def model(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that a `model` entry declares; the model is loaded when it is asked.

    Raises:
        BaseModelError: If the model is not there, or not the declared one.
        LabelingError: If it has no label of a declared name.
    """
    base = model_of(declared.model, directory)
    labels = _labels(base, declared)
    environment = environment_fingerprint(MODEL_PACKAGES, machine=True)
    book = fingerprint({
        "asks": "model", "model": base.content_hash, "max_tokens": declared.max_tokens,
        "environment": environment, "code": code_fingerprint("fm_platform.training.predict"),
    })  # fmt: skip
    named = sorted(set(declared.labels.values()))
    means = np.array([[declared.labels.get(label) == name for name in named] for label in labels])

    def score(rows: Sequence[Row], keep: Keep) -> None:
        classifier = _loaded(base)
        for start in range(0, len(rows), _AT_ONCE):
            texts = [row[declared.column] for row in rows[start : start + _AT_ONCE]]
            told = predict_probabilities(classifier, texts, max_tokens=declared.max_tokens)
            keep(list(range(start, start + len(texts))), told)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        rows, where = rows_of(batch, (declared.column,), declared.name)
        told = remembered(context, book, rows, (declared.column,), len(labels), score)
        probabilities = told.astype(np.float64) @ means
        sure = probabilities.max(axis=1, initial=0) >= declared.minimum_confidence
        index = answers(classes)
        codes, sets = encode([members(index, name) for name in named], len(classes))
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        votes[where[sure]] = codes[probabilities.argmax(axis=1)[sure]]
        return Outcome(votes, sets=sets)

    definition = {
        **declared.model_dump(mode="json", exclude={"name", "model"}),
        "model": base.content_hash,
        "environment": environment,
    }
    return LabelingFunction(
        declared.name, "model", definition, run,
        source=f"{base.location}: " + ", ".join(f"{k} is {v}" for k, v in declared.labels.items()),
    )  # fmt: skip


@lru_cache(maxsize=2)
def _loaded(base: BaseModel) -> Classifier:
    return load_classifier(base.directory)


def _labels(base: BaseModel, declared: Any) -> list[str]:
    """Return the labels of a classifier by their index.

    Raises:
        LabelingError: If a declared one is not among them.
    """
    config = json.loads((base.directory / "config.json").read_text("utf-8"))
    found = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    labels = [str(found[key]) for key in sorted(found, key=int)]
    unknown = sorted(set(declared.labels) - set(labels))
    if unknown:
        raise LabelingError(
            f"labeling function {declared.name!r}: the model has no such label",
            where=base.directory,
            expected=", ".join(labels),
            found=", ".join(unknown),
        )
    return labels
