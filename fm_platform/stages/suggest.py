"""Functions suggested for a project: its rows read, candidates searched, judged and written in.

Test rows are never read: what is believed comes from weak labels of training rows and from the
dev gold rows that labeling may read anyway.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from fm_platform.errors import FMError, SourceFormatError
from fm_platform.hashing import sha256_hex
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.asking import AskingContext
from fm_platform.labeling.declared import compile_declared
from fm_platform.labeling.partial import Votes
from fm_platform.labeling.suggest import THRESHOLD, Believed, Declared, Suggestion, judge
from fm_platform.labeling.templates import (
    Search,
    alike,
    asked,
    count,
    lexicon,
    metadata,
    word_lists,
)
from fm_platform.spec.edit import with_functions
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.spec.models import DeclaredFunction
from fm_platform.stages import tables
from fm_platform.stages.window import dev_gold
from fm_platform.store.files import atomic_write
from fm_platform.workspace import Workspace

MOST_ROWS = 20_000
"""Training rows that are looked at, of the last days."""
MOST_ASKED = {"prompt": 200, "nearest": 1500}
"""Rows of each half on which a model is asked."""
_MOST_EXAMPLES = 1000
_MOST_BYTES = 1 << 20
_LEAST_HITS = 10
_TAKEN = "is in the project file"


@dataclass(frozen=True)
class Intention:
    """What a person wants asked: a prompt, of a model, with the answer words of each class."""

    template: str
    model: str
    answers: Mapping[str, Sequence[str]]


def read_examples(data: bytes, where: str, classes: Sequence[str]) -> dict[str, list[str]]:
    """Return class -> texts of a CSV file with the columns `text` and `label`.

    Raises:
        SourceFormatError: If it is no such file, or names a class that is none.
    """
    try:
        if len(data) > _MOST_BYTES:
            raise SourceFormatError("examples are a few lines", where=where, found="a large file")
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceFormatError(
            "the examples are no CSV file in UTF-8", where=where, found=str(error)[:200]
        ) from None
    if not {"text", "label"} <= set(reader.fieldnames or ()):
        raise SourceFormatError(
            "the examples lack a column", where=where, expected="text, label",
            found=", ".join(reader.fieldnames or ())[:200],
        )  # fmt: skip
    found: dict[str, list[str]] = {}
    for line, row in enumerate(rows[:_MOST_EXAMPLES], 2):
        label = (row["label"] or "").strip()
        if label not in classes or not row["text"]:
            raise SourceFormatError(
                "an example has no text, or no class", where=f"{where}:{line}",
                expected=", ".join(classes), found=repr(label)[:80],
            )  # fmt: skip
        found.setdefault(label, []).append(row["text"])
    return {name: found[name] for name in classes if name in found}


def suggest(
    ws: Workspace,
    project: LoadedProject,
    examples: Mapping[str, Sequence[str]],
    intention: Intention | None = None,
    threshold: float = THRESHOLD,
) -> list[Suggestion]:
    """Return labeling functions that might be added, the accepted ones first.

    Args:
        ws: Where the rows are.
        project: The project.
        examples: Class -> texts.
        intention: A prompt to try as well.
        threshold: For the lower bound of the precision on held-out rows.

    Raises:
        FMError: If the project has no weak labels yet.
    """
    rows = _rows(ws, project)
    classes = project.spec.taxonomy.classes
    names = [function.name for function in project.spec.labeling.functions]

    def apply(declared: Declared, batch: pa.RecordBatch) -> Votes:
        adapter: TypeAdapter[Any] = TypeAdapter(DeclaredFunction)
        function = compile_declared(adapter.validate_python(declared), project.directory)
        context = AskingContext(answers=ws.home.answers)
        return apply_function(function, [batch], classes, context).votes

    half = np.array([_bit(row) for row in rows.batch.column("row_id").to_pylist()], np.bool_)
    searched, held = rows.part(half), rows.part(~half)
    search = Search(searched, examples, classes, apply, threshold, _LEAST_HITS)
    counted = count(search)
    numeric, textual = _columns(project)
    candidates = [*word_lists(search, counted), *lexicon(search, counted)]
    candidates += metadata(search, numeric, textual)
    candidates += alike(search, project.spec.base_model.location, MOST_ASKED["nearest"])
    if intention is not None:
        candidates += asked(
            search, intention.model, intention.template, intention.answers, MOST_ASKED["prompt"]
        )
    candidates = list({c["name"]: c for c in reversed(candidates)}.values())[::-1]
    there = [c for c in candidates if c["name"] in names]
    new = [c for c in candidates if c["name"] not in names]
    found = judge(new, held, apply, threshold, MOST_ASKED)
    return [*found, *(_there(one) for one in there)]


def accept(
    project: LoadedProject, suggestions: Sequence[Suggestion], names: Sequence[str]
) -> list[str]:
    """Write suggestions into the project file; return the names that were not there before.

    Raises:
        FMError: If a name was not suggested, or did not clear the threshold, or the file is laid
            out so that only a person can add to it. The file is then as it was.
    """
    by_name = {suggestion.name: suggestion for suggestion in suggestions}
    for name in names:
        if name not in by_name or not (by_name[name].accepted or by_name[name].why == _TAKEN):
            raise FMError(
                f"{name!r} cannot be accepted",
                found=by_name[name].why if name in by_name else "no suggestion of this name",
                expected=", ".join(s.name for s in suggestions if s.accepted) or "none clears",
            )
    added = [by_name[name] for name in dict.fromkeys(names) if by_name[name].why != _TAKEN]
    if not added:
        return []
    before = project.file.read_bytes()
    text = before.decode("utf-8")
    atomic_write(project.file, with_functions(text, [s.declared for s in added]).encode())
    try:
        load_spec(project.file)
    except FMError:
        atomic_write(project.file, before)
        raise
    return [suggestion.name for suggestion in added]


def _there(declared: Declared) -> Suggestion:
    return Suggestion(declared["name"], declared, 0, 0.0, 0.0, 0.0, 0.0, 1.0, 0, 0, False, _TAKEN)


def _bit(row_id: str) -> bool:
    """Return on which half a row is: a hash of its id, made once and for ever."""
    return int(sha256_hex(f"suggest\0{row_id}".encode())[:2], 16) < 128


def _columns(project: LoadedProject) -> tuple[list[str], list[str]]:
    """Return the columns that hold numbers, measures of the text included, and those of words."""
    columns = project.spec.contract.columns
    numbers = [name for name, c in columns.items() if c.type in ("integer", "number")]
    words = [name for name, c in columns.items() if c.type == "string" and name != "text"]
    return sorted([*numbers, "char_count", "word_count"]), sorted([*words, "source"])


def _rows(ws: Workspace, project: LoadedProject) -> Believed:
    """Return training rows with their weak labels, and dev gold rows with what people said."""
    spec = project.spec
    parts: list[Believed] = []
    last = ws.ledger.last_partition(spec.name, "weak_labels", "weak_labels")
    gold: dict[str, str] = {}
    if last is not None:
        told = dev_gold(ws, spec, last)
        gold = dict(zip(told["row_id"].to_pylist(), told["label"].to_pylist(), strict=True))
    seen = 0
    for weak in reversed(ws.ledger.all_latest(spec.name, "weak_labels")):
        if seen >= MOST_ROWS or (last and str(weak.partition) > last):
            continue
        part = _of_day(ws, project, weak, gold)
        if part is not None:
            parts.append(part)
            seen += len(part.known)
    if not parts:
        raise FMError(
            f"project {spec.name} has no labeled rows to judge functions on",
            expected="weak labels of at least one day",
            next_step=f"fm run {spec.name}",
        )
    width = max(part.votes.shape[1] for part in parts)
    names = next(part.functions for part in parts if part.votes.shape[1] == width)
    same = [part for part in parts if part.functions == names]
    return Believed(
        pa.Table.from_batches([part.batch for part in same]).combine_chunks().to_batches()[0],
        np.concatenate([part.belief for part in same]),
        np.concatenate([part.known for part in same]),
        np.concatenate([part.gold for part in same]),
        np.concatenate([part.votes for part in same]), names,
    )  # fmt: skip


def _of_day(
    ws: Workspace, project: LoadedProject, weak: Any, gold: Mapping[str, str]
) -> Believed | None:
    raw = ws.ledger.latest(project.spec.name, "raw", "raw", weak.partition)
    if raw is None:
        return None
    names = ["row_id", "split", "votes", "probabilities", "labeled"]
    labels = tables.read(ws, weak, "weak_labels", names)
    # no test row, not even its text; of the dev rows those that labeling may read anyway
    wanted = pc.or_(
        pc.equal(labels["split"], "train"),
        pc.is_in(labels["row_id"], value_set=pa.array(sorted(gold), pa.string())),
    )
    labels = labels.filter(pc.and_(wanted, pc.not_equal(labels["split"], "test")))
    rows = tables.read(ws, raw, "raw")
    place = pc.index_in(labels["row_id"], value_set=rows["row_id"].combine_chunks())
    labels, place = labels.filter(pc.is_valid(place)), place.drop_null()
    if not labels.num_rows:
        return None
    classes = list(project.spec.taxonomy.classes)
    belief = tables.matrix(labels["probabilities"]).astype(np.float64)
    if belief.shape[1] != len(classes):  # of other classes
        return None
    said = [gold.get(row) for row in labels["row_id"].to_pylist()]
    is_gold: npt.NDArray[np.bool_] = np.array([label is not None for label in said], np.bool_)
    for i in np.flatnonzero(is_gold).tolist():
        belief[i] = np.eye(len(classes))[classes.index(str(said[i]))]
    return Believed(
        rows.take(place).combine_chunks().to_batches()[0], belief,
        np.array(labels["labeled"].to_pylist(), np.bool_) | is_gold, is_gold,
        tables.matrix(labels["votes"]).astype(np.int8), tuple(weak.metrics.get("functions", ())),
    )  # fmt: skip
