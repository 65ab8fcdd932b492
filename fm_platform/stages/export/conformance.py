"""Is a JSON event what the OpenLineage schema says?

The OpenLineage project generates the classes of its Python client from its JSON schema. Here an
event is checked against them: every field known, every required one there, every type right,
times with an offset, identifiers well formed, each facet under its own name and in its own place.

Source: https://openlineage.io/spec/2-0-2/OpenLineage.json and the facets beside it.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit
from uuid import UUID

# Names under which the schema wants a facet, where they do not follow from the class.
_KEYS = {
    "ProcessingEngineRunFacet": "processing_engine",
    "InputSubsetInputDatasetFacet": "subset",
    "OutputSubsetOutputDatasetFacet": "subset",
    "DatasetVersionDatasetFacet": "version",
    "SQLJobFacet": "sql",
}
_SUFFIX = re.compile(r"(Run|Job|InputDataset|OutputDataset|Dataset)Facet$")
_TIMES = frozenset({"eventTime", "nominalStartTime", "nominalEndTime"})
_ADDRESSES = frozenset({"producer", "schemaURL", "_producer", "_schemaURL"})


def problems(event: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an event, each with its path; empty where it conforms.

    Example:
        >>> problems({"schemaURL": "https://example.org/other.json"})
        ['schemaURL: no event of OpenLineage: https://example.org/other.json']
    """
    kind = _events().get(str(event.get("schemaURL")))
    if kind is None:
        return [f"schemaURL: no event of OpenLineage: {event.get('schemaURL')}"]
    return list(_object(event, kind, ""))


@cache
def _events() -> dict[str, type]:
    """Return schema address -> class of every kind of event."""
    from openlineage.client.generated import base

    return {c._get_schema(): c for c in (base.RunEvent, base.DatasetEvent, base.JobEvent)}


@cache
def _facets() -> dict[str, type]:
    """Return schema address -> class of every facet."""
    from openlineage.client import facet_v2

    modules = [m for m in vars(facet_v2).values() if inspect.ismodule(m)]
    found = [c for m in modules for c in vars(m).values() if inspect.isclass(c)]
    return {
        c._get_schema(): c
        for c in found
        if issubclass(c, facet_v2.BaseFacet) and c.__name__.endswith("Facet")
    }


def facet_key(facet: type) -> str:
    """Return the name under which the schema wants a facet, e.g. `nominalTime`."""
    name = facet.__name__
    plain = _KEYS.get(name) or _SUFFIX.sub("", name)
    return plain[0].lower() + plain[1:]


@cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Return name, type and whether it is required, of every field of a class."""
    import attr

    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name], f.default is attr.NOTHING) for f in attr.fields(kind))


def _object(value: Any, kind: type, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path or 'event'}: not an object"
        return
    fields = _fields(kind)
    # what the client fills in itself, the schema requires
    required = {name for name, _, needed in fields if needed} | (
        {name for name, _, _ in fields} & _ADDRESSES
    )
    for name in sorted(required - value.keys()):
        yield f"{_join(path, name)}: missing"
    for name in sorted(value.keys() - {name for name, _, _ in fields}):
        yield f"{_join(path, name)}: not in the schema of {kind.__name__}"
    for name, hint, _ in fields:
        if name in value:
            yield from _value(value[name], hint, _join(path, name))
            yield from _format(name, value[name], _join(path, name))


def _value(value: Any, hint: Any, path: str) -> Iterator[str]:
    origin = get_origin(hint)
    if hint is Any:
        return
    if origin in (Union, types.UnionType):
        yield from _one_of(value, get_args(hint), path)
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: not a list"
            return
        for index, item in enumerate(value):
            yield from _value(item, get_args(hint)[0], f"{path}[{index}]")
    elif origin is dict:
        yield from _mapping(value, get_args(hint)[1], path)
    elif origin is Literal:
        if value not in get_args(hint):
            yield f"{path}: {value!r} is none of {get_args(hint)}"
    elif inspect.isclass(hint) and issubclass(hint, Enum):
        if value not in [member.value for member in hint]:
            yield f"{path}: {value!r} is no {hint.__name__}"
    elif hasattr(hint, "__attrs_attrs__"):
        yield from _object(value, hint, path)
    elif not _is(value, hint):
        yield f"{path}: {type(value).__name__} instead of {getattr(hint, '__name__', hint)}"


def _one_of(value: Any, hints: tuple[Any, ...], path: str) -> Iterator[str]:
    """Check a union; of several classes the one whose `type` fits is meant."""
    if value is None:
        yield f"{path}: null: a field without a value is left out"
        return
    told = []
    for hint in hints:
        if hint is type(None):
            continue
        if hasattr(hint, "__attrs_attrs__") and isinstance(value, Mapping) and "type" in value:
            default = next((f.default for f in hint.__attrs_attrs__ if f.name == "type"), None)
            if default is not None and value["type"] != default:
                continue
        found = list(_value(value, hint, path))
        if not found:
            return
        told.append(found)
    yield from min(told, key=len, default=[f"{path}: fits no form"])


def _mapping(value: Any, inner: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{path}: not an object"
        return
    for name, item in value.items():
        below = _join(path, name)
        if inspect.isclass(inner) and inner.__name__.endswith("Facet"):
            yield from _facet(name, item, inner, below)
        else:
            yield from _value(item, inner, below)


def _facet(name: str, value: Any, place: type, path: str) -> Iterator[str]:
    address = value.get("_schemaURL") if isinstance(value, Mapping) else None
    kind = _facets().get(str(address))
    if kind is None:
        yield f"{path}: no facet of OpenLineage: {address}"
        return
    if not issubclass(kind, place):
        yield f"{path}: {kind.__name__} is no {place.__name__}"
    if name != facet_key(kind):
        yield f"{path}: {kind.__name__} belongs under {facet_key(kind)!r}"
    yield from _object(value, kind, path)


def _format(name: str, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        return
    if name in _TIMES:
        try:
            zoned = "T" in value and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo
        except ValueError:
            zoned = None
        if not zoned:
            yield f"{path}: {value!r} is no time with an offset"
    elif name == "runId":
        try:
            UUID(value)
        except ValueError:
            yield f"{path}: {value!r} is no UUID"
    elif name in _ADDRESSES and not urlsplit(value).scheme:
        yield f"{path}: {value!r} is no URI"


def _is(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a plain type; a boolean is no number."""
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return inspect.isclass(kind) and isinstance(value, kind)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
