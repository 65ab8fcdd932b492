"""Labeling functions and classes: do they import, do they answer, and only known classes?"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator

import pyarrow as pa

from fm_platform.errors import FMError
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.asking import ASKS_MODELS
from fm_platform.labeling.functions import LabelingFunction
from fm_platform.labeling.load import load_functions
from fm_platform.labeling.python import TIMED_OUT
from fm_platform.labeling.vocabulary import Vocabulary
from fm_platform.spec.checks import unknown
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.check.findings import NOTE, OK, WRONG, Finding, of_error
from fm_platform.stages.check.sources import newest_rows
from fm_platform.workspace import Workspace

ROWS = 20
_PART = "labeling functions"
_TEXTS = ("A short text.", "Twelve words, 3 numbers: 1 2 3 - and a question?", "Ünï çødé \N{SMILE}")


def function_findings(
    project: LoadedProject, rows: pa.Table | None = None, real: bool = False
) -> Iterator[Finding]:
    """Yield what is wrong with the labeling functions.

    Args:
        project: The project.
        rows: Some rows in the schema of `raw`, to try the functions on; None: they are only
            imported and read.
        real: Whether the rows came from the sources. Made-up ones may fail a function.
    """
    try:
        functions = load_functions(project.spec, project.directory)
    except FMError as error:
        yield of_error(_PART, error)
        return
    names = [function.name for function in functions]
    for system, name in sorted(project.spec.evaluation.baselines.items()):
        if name not in names:
            told = f"evaluation.baselines.{system}: {unknown('labeling function', name, names)}"
            yield Finding(_PART, WRONG, told, "name a function that is there")
    wrong = 0
    for function in functions:
        found = [*_unknown_answers(function, project.spec)]
        asks = function.kind in ASKS_MODELS  # its files are checked; to load it takes too long
        if not found and rows is not None and not function.needs and not asks:
            found = [*_tried(function, project.spec, rows, real)]
        wrong += any(finding.failing for finding in found)
        yield from found
    if not wrong:
        tried = f", tried on {rows.num_rows} {'' if real else 'made-up '}rows" if rows else ""
        yield Finding(_PART, OK, f"{len(functions)} functions import and compile{tried}")


def some_rows(
    ws: Workspace, project: LoadedProject, *, readable: bool = True
) -> tuple[pa.Table, bool]:
    """Return a few rows to try functions on, and whether they are real.

    They are of the last built day, else of a source, else made up: where none has come yet, or
    the sources are not `readable`.
    """
    spec = project.spec
    day = ws.ledger.last_partition(spec.name, "raw", "raw")
    version = ws.ledger.latest(spec.name, "raw", "raw", day) if day else None
    schema = tables.raw_schema(spec)
    if version is not None:
        for batch in ws.tables.read(ws.table_ref(version, "raw")):
            rows = pa.Table.from_batches([batch.slice(0, ROWS)])
            if rows.num_rows and rows.schema.equals(schema):
                return rows, True
    if readable and (rows := newest_rows(ws, project, ROWS)):
        return pa.Table.from_pylist(rows, schema), True
    made_up = [
        {
            "row_id": str(i), "day": spec.calendar.start.isoformat(), "split": "train",
            "source": spec.sources[0].name, "text": text, "text_key": str(i),
        }
        for i, text in enumerate(_TEXTS)
    ]  # fmt: skip
    return pa.Table.from_pylist(made_up, schema), False


def _tried(
    function: LabelingFunction, spec: ProjectSpec, rows: pa.Table, real: bool
) -> Iterator[Finding]:
    try:
        known = Vocabulary.of(spec.taxonomy.classes, spec.taxonomy.former)
        limit = spec.labeling.timeout_s
        column = apply_function(function, rows[:1].to_batches(), known, timeout_s=limit)
        if not any(TIMED_OUT in reason for reason in column.first_failures):
            column = apply_function(function, rows.to_batches(), known, timeout_s=limit)
    except FMError as error:
        yield of_error(_PART, error)
        return
    if any(TIMED_OUT in reason for reason in column.first_failures):
        told = f"{function.name} takes longer than labeling.timeout_s, {limit:g} s, for a row"
        yield Finding(_PART, WRONG, told, "mend the function")
        return
    if not column.failed_rows:
        return
    kinds = sorted({reason.partition(": ")[2] for reason in column.first_failures})
    all_rows = real and column.failed_rows == rows.num_rows
    yield Finding(
        _PART, WRONG if all_rows else NOTE,
        f"{function.name} fails on {column.failed_rows} of {rows.num_rows} rows "
        f"({', '.join(kinds)}); it abstains there",
        "mend the function" if all_rows else "",
    )  # fmt: skip


def _unknown_answers(function: LabelingFunction, spec: ProjectSpec) -> Iterator[Finding]:
    """Yield class names that a Python function returns in its text and that are no classes.

    A few rows do not reach every line of a function; its text does.
    """
    if function.kind != "python":
        return
    known = {*spec.taxonomy.classes, *spec.taxonomy.former}
    unknown = sorted({name for name in _returned(function.source) if name not in known})
    if unknown:
        yield Finding(
            _PART, WRONG,
            f"{function.name} answers {', '.join(map(repr, unknown))}; the classes are "
            f"{', '.join(spec.taxonomy.classes)}",
            "mend the function, or add the class to the taxonomy",
        )  # fmt: skip


def _returned(source: str) -> Iterator[str]:
    """Yield the strings that the outermost function of a source text returns as they stand."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:  # the text of a function cut out of its file may not stand alone
        return
    pending: list[ast.AST] = [*tree.body[:1]]
    outermost = True
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            if not outermost:
                continue
            outermost = False
        if isinstance(node, ast.Return) and node.value is not None:
            yield from _strings(node.value)
        pending.extend(ast.iter_child_nodes(node))


def _strings(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from _strings(value.body)
        yield from _strings(value.orelse)
    elif isinstance(value, (ast.Tuple, ast.List, ast.Set)):
        for item in value.elts:
            yield from _strings(item)
