"""What decides the votes of a Python function, so that an edit recomputes them and a comment not.

Followed from a function: its code, the helpers and classes of its own file, closure cells,
defaults, module-level values, and the versions of the packages it uses. What cannot be described
exactly counts as the whole file: recomputing once too often is cheap, stale votes are not.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time, timedelta
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from fm_platform.errors import LabelingError
from fm_platform.hashing import fingerprint, sha256_file, sha256_hex

_WHOLE_FILE = "<file>"


def definition_of(function: FunctionType, resources: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON of everything that decides what `function` votes.

    Raises:
        LabelingError: If a resource has no content that can be hashed, e.g. an open connection.
    """
    found = _Walk(function)
    return {
        "code": found.code,
        "resources": {key: _resource(key, value) for key, value in sorted(resources.items())},
        "packages": found.packages,
    }


def normal_code(text: str) -> str:
    """Return code without comments, docstrings, decorators of functions and formatting."""
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                node.decorator_list = []
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False)


def text_of(item: FunctionType | CodeType | type) -> str | None:
    """Return the source text of a function or class; None where it was made without a file."""
    try:
        # the code object, since a function may point to the one that it wraps
        found = item.__code__ if isinstance(item, FunctionType) else item
        return textwrap.dedent(inspect.getsource(found))
    except (OSError, TypeError):
        return None


def columns_used(function: FunctionType) -> frozenset[str] | None:
    """Return the columns a row function reads, or None where its code does not tell.

    It tells where the row is used as `row.name` and in no other way.
    """
    text = text_of(function)
    if text is None or not function.__code__.co_argcount:
        return None
    row = function.__code__.co_varnames[0]
    try:
        tree = ast.parse(text)
    except SyntaxError:  # part of a longer expression, such as a lambda in a call
        return None
    names: set[str] = set()
    plain = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == row:
            plain += 1
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Load)
            and isinstance(node.value, ast.Name)
            and node.value.id == row
        ):
            plain -= 1
            names.add(node.attr)
    hidden = {"locals", "vars", "eval", "exec"} & set(_global_names(function.__code__))
    return frozenset(names) if plain == 0 and names and not hidden else None


class _Walk:
    """Follows a function to all that decides its answers.

    Attributes:
        code: Name -> hash, of code and of values.
        packages: Distribution -> version.
    """

    def __init__(self, function: FunctionType) -> None:
        self.module = function.__module__
        self.code: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self._todo: list[tuple[str, Any]] = [(function.__name__, function)]
        self._seen: set[int] = set()
        while self._todo:
            label, value = self._todo.pop()
            self._follow(label, value)
        self.code = dict(sorted(self.code.items()))
        self.packages = dict(sorted(self.packages.items()))

    def _follow(self, label: str, value: Any) -> None:
        value = _unwrapped(value)
        if isinstance(value, (FunctionType, type)):
            if value.__module__ != self.module:
                self._package(value.__module__)
            elif isinstance(value, type):
                self._class(label, value)
            else:
                self._function(label, value)
        elif isinstance(value, ModuleType):
            self._package(value.__name__)
        elif isinstance(value, np.ufunc):
            self._package("numpy")
        elif inspect.isbuiltin(value):
            self._package(value.__module__)
        else:
            try:
                described = _plain(value, self._push)
            except (TypeError, RecursionError):
                described = self._opaque(value)
            self.code[label] = fingerprint(described)

    def _push(self, value: Any) -> str:
        """Follow code met inside a value; return how the value names it."""
        name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", value))
        self._todo.append((name, value))
        return f"<code {name}>"

    def _function(self, label: str, function: FunctionType) -> None:
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        if label in self.code:  # two of one name, e.g. made by a factory
            label = f"{label}#{len(self._seen)}"
        self.code[label] = _code_hash(function)
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._todo.append((f"{label}.{name}", cell.cell_contents))
            except ValueError:  # not yet assigned
                self.code[f"{label}.{name}"] = "-"
        defaults = {**(function.__kwdefaults__ or {})}
        positional = code.co_varnames[: code.co_argcount]
        given = function.__defaults__ or ()
        defaults |= dict(zip(positional[len(positional) - len(given) :], given, strict=True))
        for name, value in sorted(defaults.items()):
            self._todo.append((f"{label}({name})", value))
        self._globals(code, function.__globals__)
        self._imports(text_of(function))

    def _class(self, label: str, cls: type) -> None:
        if id(cls) in self._seen:
            return
        self._seen.add(id(cls))
        text = text_of(cls)
        self.code[label] = self._file() if text is None else sha256_hex(normal_code(text).encode())
        self._imports(text)
        for base in cls.__bases__:
            self._push(base)
        for name, member in sorted(vars(cls).items()):
            inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(inner, FunctionType) and inner.__module__ == self.module:
                self._todo.append((f"{label}.{name}", inner))

    def _globals(self, code: CodeType, values: Mapping[str, Any]) -> None:
        for name in sorted(_global_names(code)):
            if name in values:
                self._todo.append((name, values[name]))

    def _opaque(self, value: Any) -> list[Any]:
        """Describe an object by its type, what can be seen of its state, and the whole file."""
        kind = type(value)
        self._push(kind)
        self.code[_WHOLE_FILE] = self._file()
        try:
            state = _plain(vars(value), self._push)
        except (TypeError, RecursionError):
            state = None
        # the name of the own module follows its text, comments included
        home = "" if kind.__module__ == self.module else kind.__module__
        return [home, kind.__qualname__, state]

    def _file(self) -> str:
        module = sys.modules.get(self.module)
        try:
            return sha256_hex(normal_code(inspect.getsource(module)).encode()) if module else "-"
        except (OSError, TypeError):
            return "-"

    def _imports(self, text: str | None) -> None:
        """Note the packages that the body of a function imports."""
        for name in _imported(text):
            self._package(name)

    def _package(self, module: str | None) -> None:
        if module is None or module == self.module:
            return
        root = module.split(".")[0]
        if root in sys.stdlib_module_names:
            return
        local = _local_file(module)
        if local is not None:
            self.code[module] = sha256_file(local)
        elif (number := _version(root)) is not None:
            self.packages[root] = number


def _code_hash(function: FunctionType) -> str:
    text = text_of(function)
    if text is not None:
        try:
            return sha256_hex(normal_code(text).encode())
        except SyntaxError:  # a piece of a longer expression
            return sha256_hex(text.encode())
    return fingerprint(_bytecode(function.__code__))


def _bytecode(code: CodeType) -> list[Any]:
    constants = [_bytecode(c) if inspect.iscode(c) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _global_names(code: CodeType) -> set[str]:
    """Return the names a code object and those inside it refer to."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if inspect.iscode(constant):
            names |= _global_names(constant)
    return names


def _imported(text: str | None) -> Iterator[str]:
    try:
        tree = ast.parse(text or "")
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _unwrapped(value: Any) -> Any:
    """Return the function behind `functools.lru_cache`."""
    if isinstance(value, (FunctionType, type, ModuleType)):
        return value
    inner = getattr(value, "__wrapped__", None)
    return inner if isinstance(inner, FunctionType) else value


def _resource(key: str, value: Any) -> Any:
    def refuse(item: Any) -> str:
        raise TypeError(type(item).__name__)

    try:
        return _plain(value, refuse)
    except TypeError as error:
        raise LabelingError(
            f"the resource {key!r} of a labeling function has no content that can be hashed",
            found=str(error),
            expected="text, numbers, dates, patterns, paths, arrays, and lists and maps of these",
            next_step="give the function what the object is made of",
        ) from None


def _plain(value: Any, code: Callable[[Any], str]) -> Any:
    """Return `value` as JSON; functions and classes inside are named by `code`.

    Raises:
        TypeError: For a value whose content cannot be seen.
    """
    value = _unwrapped(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, complex)):
        return repr(value)  # NaN and infinities have no JSON
    if isinstance(value, Enum):
        return [type(value).__qualname__, _plain(value.value, code)]
    if isinstance(value, (bytes, bytearray)):
        return sha256_hex(bytes(value))
    if isinstance(value, (date, time, timedelta, PurePath)):
        return f"{type(value).__name__} {value}"
    if isinstance(value, re.Pattern):
        return [value.pattern if isinstance(value.pattern, str) else repr(value.pattern),
                value.flags]  # fmt: skip
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return [str(value.dtype), list(value.shape), sha256_hex(value.tobytes())]
    if isinstance(value, Mapping):
        return [[_plain(key, code), _plain(item, code)] for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item, code) for item in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [_plain(item, code) for item in value]
    if isinstance(value, functools.partial):
        return [_plain(value.func, code), _plain(value.args, code), _plain(value.keywords, code)]
    if isinstance(value, (FunctionType, type, ModuleType)) or inspect.isbuiltin(value):
        return code(value)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return [code(type(value)), _plain(fields, code)]
    raise TypeError(type(value).__name__)


@cache
def _local_file(module: str) -> Path | None:
    """Return the file of a module that belongs to no installed distribution but a checkout."""
    root, *rest = module.split(".")
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    if {"site-packages", "dist-packages"} & set(origin.parts) or not origin.is_file():
        return None
    base = origin.parent if spec.submodule_search_locations else origin.with_suffix("")
    for path in (base.joinpath(*rest).with_suffix(".py"), base.joinpath(*rest, "__init__.py")):
        if path.is_file():
            return path
    return origin


@cache
def _version(module: str) -> str | None:
    """Return the version of the distribution that holds a top-level module, if there is one."""
    try:
        return version(module)  # most distributions are called like their module
    except PackageNotFoundError:
        # the full map reads every installed package: seconds, so only where it is needed
        names = packages_distributions().get(module)
        return version(names[0]) if names else None
