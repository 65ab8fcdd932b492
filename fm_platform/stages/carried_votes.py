"""Votes of before in the classes of today.

A labeling function answers names; what a name means today is in the taxonomy. So its votes of
before are read again instead of asked again, and only functions that are new or edited run over
old days.
"""

from __future__ import annotations

import numpy as np

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.labeling.partial import FIRST_SET, encode, from_table, to_table
from fm_platform.labeling.vocabulary import Vocabulary, answers, members
from fm_platform.lineage import Produced, Recipe
from fm_platform.lineage.recipes import taxonomy_part
from fm_platform.stages.carry import unchanged_but_for_classes
from fm_platform.workspace import Workspace


def carried_votes(ws: Workspace, recipe: Recipe, vocabulary: Vocabulary) -> Produced | None:
    """Return the votes in use in the classes of today; None where the function must run."""
    before = unchanged_but_for_classes(ws, recipe)
    if before is None:
        return None
    try:
        table = ws.columns.get(str(before.location["column"]))
    except (CorruptArtifactError, MissingArtifactError):  # it is built anew, from the rows
        return None
    votes, sets = from_table(table)
    index, was = answers(vocabulary), before.config["classes"]
    codes = [*range(len(was)), *(FIRST_SET - i for i in range(len(sets.sets)))]
    said = [members(index, [was[m] for m in sets.members(code)]) for code in codes]
    today, book = encode(said, len(vocabulary))
    read = np.full(256, -1, np.int8)
    read[np.array(codes, np.int64) + 128] = today
    moved = to_table(table["row_id"], read[votes.astype(np.int16) + 128], book)
    return Produced(
        content := ws.columns.put(moved), {"column": content}, moved.num_rows, moved.nbytes,
        {"failures": before.metrics["failures"], "carried": True}, taxonomy_part(vocabulary),
    )  # fmt: skip
