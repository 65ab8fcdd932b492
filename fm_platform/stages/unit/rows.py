"""The file of a hand-made set: at most 50 rows, each with the label that somebody expects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pyarrow as pa

from fm_platform.cleaning.contracts import check_batch
from fm_platform.errors import UnitSetError
from fm_platform.hashing import sha256_file
from fm_platform.sources.csv_reader import read_csv
from fm_platform.sources.ingest import row_id, text_key
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import Contract, ProjectSpec
from fm_platform.spec.unit import MOST_ROWS
from fm_platform.stages import tables

MISSING = "-"


@dataclass(frozen=True)
class UnitRows:
    """The rows of a set.

    Attributes:
        rows: n rows in the schema of `raw`, all of them train rows of the first day.
        labels: n class names: what is expected.
    """

    rows: pa.Table
    labels: tuple[str, ...]

    @property
    def sources(self) -> list[str]:
        """N source names."""
        found: list[str] = self.rows["source"].to_pylist()
        return found

    @property
    def texts(self) -> list[str]:
        """N texts."""
        found: list[str] = self.rows["text"].to_pylist()
        return found


def unit_hash(project: LoadedProject) -> str:
    """Return the hash of the declared file; `-` where it is not there or nothing is declared."""
    path = _path(project)
    return sha256_file(path) if path is not None and path.is_file() else MISSING


def read_unit(project: LoadedProject) -> UnitRows:
    """Read the declared file.

    Raises:
        UnitSetError: If it is not there, has more than 50 rows or none, lacks a column, or a row
            of it has a wrong label, source or value.
        SourceFormatError: If it is no CSV.
    """
    spec, path = project.spec, _path(project)
    if path is None or not path.is_file():
        raise UnitSetError(
            "the unit set is not there", where=path,
            next_step="write it: a CSV with the columns text and label",
        )  # fmt: skip
    batches = list(read_csv(path))
    given = pa.Table.from_batches(batches).combine_chunks() if batches else pa.table({})
    if lacking := [name for name in ("text", "label") if name not in given.column_names]:
        raise UnitSetError(
            f"the unit set has no column {' and no column '.join(lacking)}", where=path.name,
            expected="text,label and, where wanted, source", found=", ".join(given.column_names),
        )  # fmt: skip
    if not 0 < given.num_rows <= MOST_ROWS:
        raise UnitSetError(
            "a unit set is small enough to be read by a person", where=path.name,
            expected=f"1 to {MOST_ROWS} rows", found=f"{given.num_rows} rows",
            next_step="keep the rows that a person chose for a reason; more of them are a source",
        )  # fmt: skip
    return UnitRows(_raw(spec, given, path), tuple(_labels(spec, given, path)))


def _path(project: LoadedProject) -> Path | None:
    declared = project.spec.unit
    return None if declared is None else project.directory / declared.file


def _raw(spec: ProjectSpec, given: pa.Table, path: Path) -> pa.Table:
    """Return the rows as `raw` has them: typed, with ids, each of a declared source."""
    columns = {
        name: column if name in given.column_names or name == "text"
        else column.model_copy(update={"nullable": True})
        for name, column in spec.contract.columns.items()
    }  # fmt: skip
    contract = Contract(columns=columns, max_quarantined_share=1.0)
    day, sources = spec.calendar.start.isoformat(), _sources(spec, given, path)
    typed, wrong = check_batch(given.to_batches()[0], contract, day)
    if wrong:
        raise UnitSetError(
            "rows of the unit set break the contract", where=path.name,
            found="; ".join(f"row {w.row + 1}: {w.column or 'row'}: {w.reason}" for w in wrong[:5]),
        )  # fmt: skip
    texts = typed.column("text").to_pylist()
    schema = tables.raw_schema(spec)
    n = len(texts)
    made = {
        "row_id": [row_id("unit", f"{i:02d}") for i in range(n)], "day": [day] * n,
        "source": sources, "split": ["train"] * n, "text": texts,
        "text_key": [text_key(text) for text in texts],
    }  # fmt: skip
    arrays = [
        pa.array(made[field.name], field.type) if field.name in made else typed.column(field.name)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _sources(spec: ProjectSpec, given: pa.Table, path: Path) -> list[str]:
    known = [source.name for source in spec.sources]
    turn = cycle(known)
    said: Sequence[str | None] = (
        given["source"].to_pylist() if "source" in given.column_names else [None] * given.num_rows
    )
    found = [name or next(turn) for name in said]
    _refuse_unknown("source", found, known, path)
    return found


def _labels(spec: ProjectSpec, given: pa.Table, path: Path) -> list[str]:
    single = spec.taxonomy.single
    said = [str(label or "") for label in given["label"].to_pylist()]
    _refuse_unknown("class", said, sorted(single), path)
    return [single[label] for label in said]


def _refuse_unknown(what: str, found: Sequence[str], known: Sequence[str], path: Path) -> None:
    for nth, name in enumerate(found, 1):
        if name not in known:
            raise UnitSetError(
                f"row {nth} of the unit set names a {what} that is not declared",
                where=path.name, expected=", ".join(known), found=name or "nothing",
                next_step=f"mend row {nth}, or declare the {what}",
            )  # fmt: skip
