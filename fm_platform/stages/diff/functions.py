"""Labeling functions: which changed, how their source differs, and how many votes it moved."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.labeling.partial import from_table, unite
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages.diff.records import FileChange, FunctionChange
from fm_platform.workspace import Workspace

Sides = tuple["ArtifactVersion | None", "ArtifactVersion | None"]
Describe = Callable[[str], Any]


def function_changes(
    ws: Workspace,
    votes: Iterable[Sides],
    known: tuple[Container[str], Container[str]],
    describe: Describe,
) -> tuple[FunctionChange, ...]:
    """Return the labeling functions that differ or of which votes differ, by name.

    A function that only voted on more days than before is none of them.

    Args:
        ws: Where the votes are kept.
        votes: Both versions of each column of votes that differs.
        known: Names of the functions of either history.
        describe: Fingerprint of a function -> its recorded definition.

    Raises:
        CorruptArtifactError: If a stored column differs from its hash.
        MissingArtifactError: If it is gone.
    """
    by_name: dict[str, list[Sides]] = {}
    for before, after in votes:
        either = after or before
        if either is not None:
            by_name.setdefault(either.name, []).append((before, after))
    found = [_change(ws, name, by_name[name], known, describe) for name in sorted(by_name)]
    return tuple(change for change in found if change.status != "same" or change.votes_changed)


def _change(
    ws: Workspace,
    name: str,
    days: list[Sides],
    known: tuple[Container[str], Container[str]],
    describe: Describe,
) -> FunctionChange:
    before, after = (
        next((v.config["function"] for v in reversed(side) if v is not None), None)
        for side in zip(*days, strict=True)
    )
    rows = changed = 0
    for one, two in days:
        if one is not None and two is not None:
            compared = _votes(ws, one, two)
            rows, changed = rows + compared[0], changed + compared[1]
    if before is None or after is None:
        status = "new" if name not in known[0] else "gone" if name not in known[1] else "same"
    else:
        status = "same" if before == after else "changed"
    texts = [None if f is None else source_of(describe(f)) for f in (before, after)]
    recorded = all(
        text is not None or f is None for text, f in zip(texts, (before, after), strict=True)
    )
    return FunctionChange(
        name=name,
        status=status,
        before=before,
        after=after,
        source=unified(name, texts[0], texts[1]) if recorded and status != "same" else (),
        recorded=recorded,
        days=len(days),
        rows=rows,
        votes_changed=changed,
    )


def _votes(ws: Workspace, before: ArtifactVersion, after: ArtifactVersion) -> tuple[int, int]:
    """Return how many rows both columns have, and how many of them differ."""
    read = [ws.columns.get(str(v.location["column"])) for v in (before, after)]
    # by one numbering of the sets of classes, so that votes can be compared by number
    votes, sets = unite([from_table(table) for table in read])
    one, two = (
        pa.table({"row_id": table["row_id"], "vote": pa.array(vote, pa.int8())})
        for table, vote in zip(read, votes, strict=True)
    )
    place = pc.index_in(one["row_id"], value_set=two["row_id"].combine_chunks())
    kept = one.filter(pc.is_valid(place))
    there = two["vote"].take(place.drop_null())
    # classes may have another order or number: only equal taxonomies have comparable indices
    if before.config.get("classes") != after.config.get("classes"):
        classes = [v.config["classes"] for v in (before, after)]
        left, right = (
            [{names[member] for member in sets.members(vote)} for vote in column.to_pylist()]
            for names, column in zip(classes, (kept["vote"], there), strict=True)
        )
        return len(left), sum(a != b for a, b in zip(left, right, strict=True))
    return kept.num_rows, int(pc.sum(pc.not_equal(kept["vote"], there)).as_py() or 0)


def source_of(document: Any) -> str | None:
    """Return the source text of a recorded labeling function, or None where it was not kept."""
    if isinstance(document, str):
        return document
    if isinstance(document, Mapping):
        text = document.get("source")
        return text if isinstance(text, str) else None
    return None


def file_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[FileChange, ...]:
    """Return the files, name -> text, that differ."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            status = "new" if old is None else "gone" if new is None else "changed"
            found.append(FileChange(name, status, unified(name, old, new)))
    return tuple(found)


def unified(name: str, before: str | None, after: str | None) -> tuple[str, ...]:
    """Return the unified diff of two texts, without line ends."""
    left, right = ([] if text is None else text.splitlines() for text in (before, after))
    return tuple(
        difflib.unified_diff(left, right, f"{name} (before)", f"{name} (after)", lineterm="")
    )
