"""Prompts and answers that a tiny causal model can learn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

THINGS, OPENINGS = ("film", "food", "review", "mood"), ("the", "a", "it is a", "one very")
MOODS = {"good": "mood : good", "fine": "mood : good", "bad": "mood : bad", "dull": "mood : bad"}
LEARNS = {"epochs": 6, "rank": 4, "alpha": 8.0, "expert_learning_rate": 0.03, "batch_tokens": 128}
"""Settings under which 200 pairs teach a tiny causal model."""


def pairs(count: int, seed: int = 0, split: str = "train") -> pa.Table:
    """Return `count` pairs of two sources whose answer follows from one word of the prompt."""
    generator = np.random.default_rng([seed, count])
    rows = []
    for i in range(count):
        word = list(MOODS)[int(generator.integers(4))]
        opening, thing = (options[int(generator.integers(4))] for options in (OPENINGS, THINGS))
        rows.append({
            "row_id": f"{split}-{seed}-{i:04d}", "source": ("mail", "chat")[i % 2],
            "text": f"{opening} {thing} was {word} ?", "answer": MOODS[word],
        })  # fmt: skip
    return pa.Table.from_pylist(rows)
