"""What a labeling function is, and the decorator that makes one of a Python function.

A vote is a class index, or -1 for "I do not know". That integer column is the contract between
labeling functions, label models and the tables.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import FunctionFailureError
from fm_platform.hashing import fingerprint, sha256_hex

ABSTAIN = -1
Votes = npt.NDArray[np.int8]
"""int8[n]: class indices, -1 where the function abstains."""

Row = SimpleNamespace
RowFunction = Callable[[Any], "str | int | None"]


@dataclass(frozen=True)
class LabelingContext:
    """What an exemplar function may know besides the rows. Empty for all others.

    Attributes:
        row_embeddings: float32[n, d], frozen mean-pooled embeddings of the rows.
        row_votes: int8[n, m], votes of the plain functions.
        row_sources / row_ids: n names.
        exemplar_*: The same for the e exemplars, and `exemplar_labels` int64[e].
    """

    row_embeddings: npt.NDArray[np.float32] | None = None
    row_votes: Votes | None = None
    row_sources: Sequence[str] = ()
    row_ids: Sequence[str] = ()
    exemplar_embeddings: npt.NDArray[np.float32] | None = None
    exemplar_votes: Votes | None = None
    exemplar_sources: Sequence[str] = ()
    exemplar_ids: Sequence[str] = ()
    exemplar_labels: npt.NDArray[np.int64] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """Votes of one batch, and the rows on which the function failed (they abstain)."""

    votes: Votes
    failures: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelingFunction:
    """One named source of votes.

    Attributes:
        name: Unique in the project.
        kind: `python`, `batch`, `keyword`, `regex`, `lexicon`, `rule`, `exemplars`.
        definition: JSON of everything that decides its votes; its hash is the fingerprint.
        run: (batch, classes, context) -> Outcome.
        needs: `rows`, or `exemplars` for functions that see embeddings and exemplars.
        source: Its definition for people to read.
    """

    name: str
    kind: str
    definition: Mapping[str, Any]
    run: Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]
    needs: Literal["rows", "exemplars"] = "rows"
    source: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the definition: comments and formatting do not count."""
        return fingerprint({"kind": self.kind, "definition": self.definition})


@overload
def labeling_function(function: RowFunction) -> LabelingFunction: ...
@overload
def labeling_function(
    *, name: str | None = None, batch: bool = False, resources: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., Any]], LabelingFunction]: ...
def labeling_function(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    batch: bool = False,
    resources: Mapping[str, Any] | None = None,
) -> Any:
    """Make a labeling function of a Python function.

    A row function gets a row whose columns are attributes (`row.text`, `row.source`, …) and
    returns a class name, or None to abstain. With `batch=True` it gets a `polars.DataFrame` and
    returns a series or expression of class names, null where it abstains.

    Args:
        function: The function, when used without parentheses.
        name: Its name; that of the function without it.
        batch: Whether it takes whole batches.
        resources: JSON values that it uses; they are given as keyword arguments and belong to
            the fingerprint. Word lists belong here.
    """

    def make(inner: Callable[..., Any]) -> LabelingFunction:
        label = name or inner.__name__
        given = dict(resources or {})
        definition = {
            "code": _code_of(inner),
            "resources": {key: _plain_resource(value) for key, value in sorted(given.items())},
            "packages": _packages_of(inner),
        }
        runner = _batch_runner(label, inner, given) if batch else _row_runner(label, inner, given)
        return LabelingFunction(
            name=label,
            kind="batch" if batch else "python",
            definition=definition,
            run=runner,
            source=_text_of(inner),
        )

    return make if function is None else make(function)


def _row_runner(
    name: str, function: Callable[..., Any], resources: Mapping[str, Any]
) -> Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]:
    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        votes = np.full(batch.num_rows, ABSTAIN, np.int8)
        failures: dict[int, str] = {}
        index = {label: i for i, label in enumerate(classes)}
        for i, values in enumerate(batch.to_pylist()):
            try:
                votes[i] = _vote(function(SimpleNamespace(**values), **resources), name, index)
            except FunctionFailureError:
                raise
            except Exception as error:  # a row must not stop a day: it abstains and is counted
                failures[i] = type(error).__name__
        return Outcome(votes, failures)

    return run


def _batch_runner(
    name: str, function: Callable[..., Any], resources: Mapping[str, Any]
) -> Callable[[pa.RecordBatch, Sequence[str], LabelingContext], Outcome]:
    def run(batch: pa.RecordBatch, classes: Sequence[str], context: LabelingContext) -> Outcome:
        import polars as pl

        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))
        try:
            answer = function(frame, **resources)
            series = frame.select(answer.alias("vote"))["vote"] if isinstance(
                answer, pl.Expr
            ) else pl.Series(answer)  # fmt: skip
        except Exception as error:  # the batch abstains and is counted
            reason = type(error).__name__
            return Outcome(
                np.full(batch.num_rows, ABSTAIN, np.int8), dict.fromkeys(range(len(frame)), reason)
            )
        return Outcome(votes_of_names(series.cast(pl.String).to_list(), name, classes))

    return run


def votes_of_names(names: Sequence[str | None], function: str, classes: Sequence[str]) -> Votes:
    """Return class names as votes; None abstains.

    Raises:
        FunctionFailureError: If a name is no class.
    """
    index = {label: i for i, label in enumerate(classes)}
    return np.array([_vote(label, function, index) for label in names], np.int8)


def _vote(answer: object, function: str, index: Mapping[str, int]) -> int:
    if answer is None:
        return ABSTAIN
    if isinstance(answer, str) and answer in index:
        return index[answer]
    if isinstance(answer, (int, np.integer)) and not isinstance(answer, bool) and (
        answer == ABSTAIN
    ):  # fmt: skip
        return ABSTAIN
    raise FunctionFailureError(
        f"labeling function {function!r} returned an unknown class",
        expected=f"{', '.join(index)}, or None to abstain",
        found=repr(answer)[:80],
        next_step="mend the function, or add the class to the taxonomy",
    )


def normal_code(text: str) -> str:
    """Return code without comments, docstrings and formatting, as a syntax tree dump."""
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.decorator_list = []
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False)


def _text_of(function: Callable[..., Any]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return repr(function)


def _reachable(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return a function and those of its own module that it uses, directly or not, by name."""
    found = {function.__name__: function}
    todo = [function]
    while todo:
        current = todo.pop()
        for name in sorted(_global_names(current.__code__)):
            # functools.lru_cache keeps the function itself as __wrapped__
            value: Any = current.__globals__.get(name)
            value = getattr(value, "__wrapped__", value)
            own = inspect.isfunction(value) and value.__module__ == function.__module__
            if own and name not in found:
                found[name] = value
                todo.append(value)
    return found


def _code_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return hashes of the code, constants and patterns that a function uses, by name."""
    found: dict[str, str] = {}
    for name, part in _reachable(function).items():
        found[name] = sha256_hex(normal_code(_text_of(part)).encode())
        for used in sorted(_global_names(part.__code__)):
            value = part.__globals__.get(used)
            if isinstance(value, (str, int, float, bool, list, tuple, dict, set, frozenset)):
                found[used] = fingerprint(_plain_resource(value))
            elif isinstance(value, re.Pattern):
                found[used] = fingerprint([value.pattern, value.flags])
    return found


def _global_names(code: Any) -> set[str]:
    """Return the names a code object and those inside it refer to."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if inspect.iscode(constant):
            names |= _global_names(constant)
    return names


def _packages_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the installed versions of the third-party packages that a function uses."""
    roots: set[str] = set()
    for part in _reachable(function).values():
        roots |= _imported_roots(part)
        for name in _global_names(part.__code__):
            value = part.__globals__.get(name)
            module = value if isinstance(value, ModuleType) else inspect.getmodule(value)
            if value is not None and module is not None:
                roots.add(module.__name__.split(".")[0])
    own = function.__module__.split(".")[0]
    found = {name: _version(name) for name in sorted(roots - {"fm_platform", own})}
    return {name: number for name, number in found.items() if number is not None}


def _imported_roots(function: Callable[..., Any]) -> set[str]:
    """Return the top-level packages that the body of a function imports."""
    roots: set[str] = set()
    for node in ast.walk(ast.parse(_text_of(function))):
        if isinstance(node, ast.Import):
            roots.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots


@cache
def _version(module: str) -> str | None:
    """Return the version of the distribution that holds a top-level module; None for Python's."""
    if module in sys.stdlib_module_names:
        return None
    try:
        return version(module)  # most distributions are called like their module
    except PackageNotFoundError:
        # the full map reads every installed package: seconds, so only where it is needed
        names = packages_distributions().get(module)
        return version(names[0]) if names else None


def _plain_resource(value: Any) -> Any:
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, Mapping):
        return {str(key): _plain_resource(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(str(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [_plain_resource(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
