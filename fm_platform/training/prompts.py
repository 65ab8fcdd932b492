"""Prompt functions: a question asked of a local causal language model, row by row.

Each function is one noisy prompt; the label model weighs many of them (Arora et al. 2022, "Ask Me
Anything: A simple strategy for prompting language models"). What the model said is kept, so that
no question is asked twice: neither when a day is built again nor when only the margin changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import FunctionFailureError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.functions import ABSTAIN, LabelingContext, LabelingFunction, Outcome
from fm_platform.labeling.kinds import KINDS
from fm_platform.labeling.partial import encode
from fm_platform.labeling.vocabulary import answers as answers_of
from fm_platform.labeling.vocabulary import members
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.spec.labeling import template_fields
from fm_platform.training.answered import Floats, Keep, Row, model_of, remembered, rows_of
from fm_platform.training.base_model import BaseModel

CONTENT_FREE = ("N/A", "[MASK]", "")
"""What a prompt without content is filled with (Zhao et al. 2021, "Calibrate Before Use")."""
_CUTS = 12


@KINDS.register("prompt")
def prompt(declared: Any, directory: Path) -> LabelingFunction:
    """Return the function that a `prompt` entry declares; the model is loaded when it is asked.

    Raises:
        BaseModelError: If the model is not there, or not the declared one.
    """
    base = model_of(declared.model, directory)
    words = tuple(word for listed in declared.answers.values() for word in listed)
    fields = template_fields(declared.template)
    environment = environment_fingerprint(MODEL_PACKAGES, machine=True)
    book = fingerprint({
        "asks": "prompt", "model": base.content_hash, "template": declared.template,
        "words": words, "max_tokens": declared.max_tokens, "environment": environment,
        "code": code_fingerprint("fm_platform.training.causal"),
    })  # fmt: skip
    question = Question(base, declared.template, fields, words, declared.max_tokens, book)

    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        rows, where = rows_of(batch, fields, declared.name)
        empty = [dict.fromkeys(fields, word) for word in CONTENT_FREE if declared.calibrate]
        told = question.ask([*rows, *empty], context).astype(np.float64)
        scores = told[: len(rows)]
        if declared.calibrate:
            scores = scores - told[len(rows) :].mean(axis=0)
        sizes = [len(listed) for listed in declared.answers.values()]
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        index = answers_of(classes)
        codes, sets = encode([members(index, name) for name in declared.answers], len(classes))
        chosen, margin = decide(scores, sizes)
        sure = margin >= declared.minimum_margin
        votes[where[sure]] = codes[chosen[sure]]
        return Outcome(votes, sets=sets)

    definition = {
        **declared.model_dump(mode="json", exclude={"name", "model"}),
        "model": base.content_hash,
        "environment": environment,
    }
    return LabelingFunction(
        declared.name, "prompt", definition, run,
        source=f"{declared.template} [{' | '.join(words)}] asked of {base.location}",
    )  # fmt: skip


def decide(
    scores: npt.NDArray[np.float64], sizes: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the likeliest class of each row and how far its probability leads.

    A class is as likely as its words on average.

    Args:
        scores: float64[n, w], log likelihoods of the words, class by class.
        sizes: Words of each of the k classes.

    Returns:
        int64[n] classes and float64[n] margins above 0 up to 1; -1 where two are equally likely.

    Example:
        >>> chosen, margin = decide(np.log([[0.6, 0.1, 0.1]]), [1, 2])
        >>> chosen.tolist(), [round(float(m), 3) for m in margin]
        ([0], [0.714])
    """
    starts = np.cumsum([0, *sizes[:-1]])
    top = scores.max(axis=1, keepdims=True, initial=-np.inf)
    sums = np.add.reduceat(np.exp(scores - top), starts, axis=1) / np.array(sizes)
    probabilities = sums / sums.sum(axis=1, keepdims=True)
    ranked = np.sort(probabilities, axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    margin[margin == 0] = -1.0
    return probabilities.argmax(axis=1), margin


@dataclass(frozen=True)
class Question:
    """One prompt with its answer words, for one model.

    Attributes:
        base: The model.
        template: With the names of columns in braces.
        fields: The columns that it names.
        words: All answer words.
        max_tokens: Of a whole prompt.
        book: Hash of all this, under which answers are kept.
    """

    base: BaseModel
    template: str
    fields: tuple[str, ...]
    words: tuple[str, ...]
    max_tokens: int
    book: str

    def ask(self, rows: Sequence[Row], context: LabelingContext) -> Floats:
        """Return float32[n, words]; only what is in no cache is asked, equal rows once."""

        def score(rows: Sequence[Row], keep: Keep) -> None:
            from fm_platform.training.causal import load_causal, log_likelihoods

            causal = load_causal(self.base)
            answers = causal.continuation(self._filled(rows[0]), self.words)
            longest = max(map(len, answers))
            limit = min(self.max_tokens, causal.readable - longest)
            log_likelihoods(causal, self._prompts(causal, rows, limit), answers, keep)

        return remembered(context, self.book, rows, self.fields, len(self.words), score)

    def _filled(self, row: Row) -> str:
        return self.template.format(**row)

    def _prompts(self, causal: Any, rows: Sequence[Row], limit: int) -> list[list[int]]:
        """Return the tokens of each prompt; where they are too many, its longest column is cut."""
        found: list[list[int]] = causal.tokens([self._filled(row) for row in rows])
        for i, ids in enumerate(found):
            row = dict(rows[i])
            for _ in range(_CUTS):
                if len(found[i]) <= limit:
                    break
                name = max(self.fields, key=lambda field: len(row[field]))
                spare = (len(found[i]) - limit) / len(found[i])
                kept = int(len(row[name]) * (1 - spare)) - 4
                row[name] = row[name][: max(kept, 0)]
                found[i] = causal.tokens([self._filled(row)])[0]
            if len(found[i]) > limit:  # the template alone is too long
                raise FunctionFailureError(
                    "a prompt is longer than the model, or its max_tokens, allows",
                    expected=f"{limit} tokens at most",
                    found=f"{len(ids)} tokens, of which the template alone takes too many",
                    next_step="shorten the template, or declare a larger max_tokens",
                )
        return found
