"""Run the declared rules over a day, in order, and account for every row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.contracts import shortened
from fm_platform.cleaning.rules import DayContext, Verdicts, rule_function

KEPT_COLUMNS = (
    "row_id", "day", "source", "split", "text", "label", "probabilities", "confidence",
)  # fmt: skip

QUARANTINE_FIELDS = (
    "row_id", "day", "stage", "source", "rule", "reason", "column", "before", "after", "removed",
    "part",
)  # fmt: skip


@dataclass(frozen=True)
class CleanedDay:
    """What is kept, and what was removed or changed, with rule, reason, before and after.

    Other labels are in `corrections` as well, with probability and effect, those that are only
    proposed included.
    """

    kept: list[pa.Table]
    quarantine: list[pa.Table]
    corrections: list[dict[str, object]] = field(default_factory=list)


def clean_day(
    batches: Iterable[pa.RecordBatch],
    rules: Sequence[Any],
    classes: Sequence[str],
    seen: frozenset[str],
    day: str,
    *,
    known: Mapping[int, Any] | None = None,
    rejected: Mapping[str, frozenset[str]] | None = None,
    accepted: Mapping[str, frozenset[str]] | None = None,
) -> CleanedDay:
    """Clean one day of weak labels.

    Rows in = rows kept + rows in quarantine with `removed` true. A changed row is kept, and its
    text before and after are in quarantine with `removed` false.

    Args:
        batches: Rows of `weak_labels` of the train and dev splits.
        rules: The declared rules, in order.
        classes: Class names, by index.
        seen: Text keys that may not come again (see `DayContext`).
        day: The day, for quarantine.
        known: Position of a rule -> what was looked up for it outside these rows.
        rejected: Name of a rule -> ids of the rows that it leaves alone: people said so.
        accepted: Name of a rule -> ids of the rows of which its proposals are carried out.

    Raises:
        RegistryError: If a rule does not exist.
    """
    rows = pa.Table.from_batches(list(batches)) if batches else None
    if rows is None or rows.num_rows == 0:
        return CleanedDay([], [])
    refused: list[dict[str, object]] = []
    corrections: list[dict[str, object]] = []
    for nth, rule in enumerate(rules):
        right = (accepted or {}).get(rule.rule, frozenset())
        context = DayContext(tuple(classes), seen, (known or {}).get(nth), right)
        verdicts = rule_function(rule.rule)(rows, rule, context)
        spared = (rejected or {}).get(rule.rule)
        if spared:
            ids = pc.is_in(rows["row_id"], value_set=pa.array(sorted(spared), pa.string()))
            verdicts = verdicts.without(ids.to_numpy())
        refused += _changes(rows, rule.rule, verdicts, day)
        refused += _removals(rows, rule.rule, verdicts, day)
        corrections += _corrections(rows, rule.rule, verdicts, day)
        corrections += _repairs(rows, rule.rule, verdicts, day)
        rows = _repaired(rows, verdicts)
        if verdicts.text:
            texts = rows["text"].to_pylist()
            for position, text in verdicts.text.items():
                texts[position] = text
            index = rows.schema.get_field_index("text")
            rows = rows.set_column(index, "text", pa.array(texts, pa.string()))
        rows = _relabeled(rows, verdicts).filter(pa.array(~verdicts.remove))
    # `cells` is there where classes were split
    more = [*({"cells"} & set(rows.column_names)), *repaired_columns(rules)]
    kept = rows.select([*KEPT_COLUMNS, *more])
    refused += [{name: c[name] for name in QUARANTINE_FIELDS} for c in corrections if c["applied"]]
    quarantine = pa.Table.from_pylist(refused, _quarantine_schema())
    return CleanedDay([kept], [quarantine], corrections)


def repaired_columns(rules: Sequence[Any]) -> list[str]:
    """Return the metadata columns that rules repair, sorted; they are kept with the rows."""
    return sorted({name for rule in rules for name in getattr(rule, "columns", ())})


def _changes(rows: pa.Table, name: str, verdicts: Verdicts, day: str) -> list[dict[str, object]]:
    texts = rows["text"]
    return [
        _entry(rows, position, name, verdicts.notes.get(position, "text was normalised"), day,
               before=texts[position].as_py(), after=text, removed=False)
        for position, text in sorted(verdicts.text.items())
    ]  # fmt: skip


def _removals(rows: pa.Table, name: str, verdicts: Verdicts, day: str) -> list[dict[str, object]]:
    texts = rows["text"]
    found = []
    for nth, position in enumerate(np.flatnonzero(verdicts.remove).tolist()):
        before = verdicts.befores[nth] if verdicts.befores else texts[position].as_py()
        found.append(
            _entry(rows, position, name, verdicts.reasons[nth], day,
                   before=before, after=None, removed=True)
        )  # fmt: skip
    return found


def _corrections(
    rows: pa.Table, name: str, verdicts: Verdicts, day: str
) -> list[dict[str, object]]:
    labels = rows["label"]
    return [
        _entry(rows, position, name, other.reason, day, column="label",
               before=labels[position].as_py(), after=other.label, removed=False)
        | {"probability": max(other.probabilities), "applied": other.applied,
           "effect": other.effect}
        for position, other in sorted(verdicts.labels.items())
    ]  # fmt: skip


def _repairs(rows: pa.Table, name: str, verdicts: Verdicts, day: str) -> list[dict[str, object]]:
    return [
        _entry(rows, position, name, one.reason, day, column=one.column,
               before=one.before, after=one.after, removed=False)
        | {"probability": one.probability, "applied": one.applied, "effect": one.effect}
        for position, listed in sorted(verdicts.repairs.items())
        for one in listed
    ]  # fmt: skip


def _repaired(rows: pa.Table, verdicts: Verdicts) -> pa.Table:
    done: dict[str, dict[int, Any]] = {}
    for position, listed in verdicts.repairs.items():
        for one in listed:
            if one.applied:
                done.setdefault(one.column, {})[position] = one.after
    return _changed(rows, done)


def _relabeled(rows: pa.Table, verdicts: Verdicts) -> pa.Table:
    done = {row: other for row, other in verdicts.labels.items() if other.applied}
    if not done:
        return rows
    values: dict[str, dict[int, Any]] = {
        "label": {row: other.label for row, other in done.items()},
        "probabilities": {row: list(other.probabilities) for row, other in done.items()},
        "confidence": {row: max(other.probabilities) for row, other in done.items()},
    }
    if "cells" in rows.column_names:  # the new label tells all classes apart
        values["cells"] = dict.fromkeys(done)
    return _changed(rows, values)


def _changed(rows: pa.Table, values: Mapping[str, Mapping[int, Any]]) -> pa.Table:
    """Return rows with other values: column -> position -> value."""
    for name, changed in values.items():
        column = rows[name].to_pylist()
        for row, value in changed.items():
            column[row] = value
        kind = rows.schema.field(name).type
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, name, pa.array(column, kind))
    return rows


def _entry(
    rows: pa.Table,
    position: int,
    rule: str,
    reason: str,
    day: str,
    *,
    before: Any,
    after: Any,
    removed: bool,
    column: str = "text",
) -> dict[str, object]:
    return {
        "row_id": rows["row_id"][position].as_py(),
        "day": day,
        "stage": "cleaned",
        "source": rows["source"][position].as_py(),
        "rule": rule,
        "reason": reason,
        "column": column,
        "before": shortened(before),
        "after": shortened(after),
        "removed": removed,
        "part": f"cleaned-{day}",
    }


def _quarantine_schema() -> pa.Schema:
    kinds = {"removed": pa.bool_()}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in QUARANTINE_FIELDS])
