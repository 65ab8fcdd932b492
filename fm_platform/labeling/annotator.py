"""One person as a labeling function: the answers that the person gave, by the text of the row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.labeling.asking import PeopleContext
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.partial import encode
from fm_platform.labeling.vocabulary import answers, members


@KINDS.register("annotator")
def annotator(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that an `annotator` entry declares; it abstains on test rows."""

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        if not isinstance(context, PeopleContext) or not context.said:
            return Outcome(votes)
        keys = batch.column("text_key").to_pylist()
        splits = batch.column("split").to_pylist()
        told = [
            (i, context.said[key])
            for i, (key, split) in enumerate(zip(keys, splits, strict=True))
            if split != "test" and key in context.said
        ]
        index = answers(classes)
        codes, sets = encode([members(index, names) for _, names in told], len(classes))
        votes[[i for i, _ in told]] = codes
        return Outcome(votes, sets=sets)

    return LabelingFunction(
        declared.name, "annotator", {"annotator": declared.annotator}, run,
        source=f"annotator: {declared.annotator}",
    )  # fmt: skip
