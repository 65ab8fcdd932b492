"""What pydantic finds in a project file, in the words of who wrote that file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from fm_platform.spec.checks import Location, suggest
from fm_platform.spec.models import ProjectSpec
from fm_platform.spec.part import NAME_PATTERN
from fm_platform.spec.tree import Tree

_QUOTED = re.compile(r"'([^']*)'")
_WORDS = "yes, no, on, off, true and false"
_NO_NUMBER = f"a number is expected: {_WORDS} are none in YAML"
_LIMITS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_NO_MAPPING = ("dict_type", "mapping_type", "model_type", "model_attributes_type")
_NO_DAY = ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact")


def of_pydantic(
    tree: Tree, errors: Sequence[Any], told: Collection[Location] = ()
) -> Iterator[tuple[Location, str]]:
    """Yield each mistake once, with its place in the document.

    Args:
        tree: The document.
        errors: What pydantic found in its attributes.
        told: Places, below the attributes, of which more is known: an unknown class need not
            also be called no name.
    """
    places: set[Location] = set()
    inside = {tuple(e["loc"][:i]) for e in errors for i in range(len(e["loc"]))}
    for error in errors:
        kind = error["type"]
        if kind == "too_short" and tuple(error["loc"]) in inside:
            continue  # only because what is wrong inside was not counted
        location, message = _one(tree, error)
        of_type = kind.endswith("_type") or kind == "string_pattern_mismatch"
        if of_type and (location in places or location[1:] in told):
            continue  # another member of a union, or told better
        places.add(location)
        yield location, message


def booleans(given: Any, taken: Any, place: Location = ()) -> Iterator[tuple[Location, str]]:
    """Yield where a file says yes or no and that was taken for a number: for 1 or 0.

    Args:
        given: A value of the document.
        taken: What the spec holds there.
        place: Where that is.
    """
    if isinstance(given, bool):
        if isinstance(taken, (int, float)) and not isinstance(taken, bool):
            yield place, f"{_NO_NUMBER} (found {str(given)!r})"
    elif isinstance(given, dict) and isinstance(taken, dict):
        for key, value in given.items():
            yield from booleans(value, taken.get(key), (*place, key))
    elif isinstance(given, list) and isinstance(taken, (list, tuple)):
        for i, (value, other) in enumerate(zip(given, taken, strict=False)):
            yield from booleans(value, other, (*place, i))


def _one(tree: Tree, item: Any) -> tuple[Location, str]:
    """Return one mistake with its place, the value and the allowed words."""
    raw: Location = ("attributes", *item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    kind, value = item["type"], item.get("input")
    location = tree.in_document(raw)
    if kind == "extra_forbidden":
        return location, "unknown field" + suggest(str(raw[-1]), _fields_at(item["loc"][:-1]))
    if kind == "missing":
        return (*location, raw[-1]), "is required"
    context = item.get("ctx") or {}
    if kind == "union_tag_invalid":
        field = str(context.get("discriminator", "")).strip("'")
        allowed = _QUOTED.findall(str(context.get("expected_tags", "")))
        return (*location, field), f"unknown {field} {context.get('tag')!r}" + suggest(
            str(context.get("tag")), allowed
        )
    if kind == "union_tag_not_found":
        return location, f"{str(context.get('discriminator')).strip(chr(39))} is required"
    if kind == "literal_error" and isinstance(value, str):
        allowed = _QUOTED.findall(str(context.get("expected", "")))
        return location, f"{value!r} is not allowed" + suggest(value, allowed)
    message = _plainer(kind, value, context) or message
    if isinstance(value, (str, int, float, bool)) and repr(value) not in message:
        message += f" (found {str(value)[:80]!r})"
    return location, message


def _plainer(kind: str, value: Any, context: dict[str, Any]) -> str | None:
    """Return what is expected, where pydantic says it in words of Python."""
    nothing = "; nothing stands there" if value is None else ""
    if kind == "string_pattern_mismatch" and context.get("pattern") == NAME_PATTERN:
        return "a name is a small letter, then small letters, digits and _, 64 at most"
    if kind in ("tuple_type", "list_type"):
        return f"a list is expected, e.g. [a, b]{nothing}"
    if kind in _NO_MAPPING:
        return f"settings are expected, e.g. {{name: value}}{nothing}"
    if kind in _NO_DAY:
        return f"a day is expected, e.g. 2026-01-31{nothing}"
    if kind in _LIMITS and isinstance(value, bool):
        return _NO_NUMBER
    if kind == "string_type" and isinstance(value, bool):
        return f"text is expected: {_WORDS} are not text in YAML; put the word in quotes"
    if kind == "string_type":
        quoted = "; put it in quotes" if isinstance(value, (int, float, date)) else nothing
        return f"text is expected{quoted}"
    if kind == "too_short":
        number = context.get("min_length")
        return f"{number} at least are expected, not {context.get('actual_length')}"
    return None


def _fields_at(location: Iterable[str | int]) -> list[str]:
    """Return the field names of the part at a location, following the declared types."""
    annotation: Any = ProjectSpec
    for part in location:
        annotation = _inside(annotation, part)
    if not _is_model(annotation):
        return []
    return sorted(field.alias or name for name, field in annotation.model_fields.items())


def _inside(annotation: Any, part: str | int) -> Any:
    """Return the type of an item, a value or a field of a type; None where there is none."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return field.annotation if field is not None else None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _inside(arguments[0], part)
    if origin is tuple:
        return arguments[0]
    if origin is dict:
        return arguments[1]
    for member in arguments:  # of a union
        if _is_model(member):
            if part in _tags(member):
                return member
        elif get_origin(member) in (tuple, dict):
            return _inside(member, part)
    return None


def _tags(model: Any) -> set[Any]:
    """Return the words by which a member of a union is chosen."""
    tags: set[Any] = set()
    for field in model.model_fields.values():
        if get_origin(field.annotation) is Literal:
            tags.update(get_args(field.annotation))
    return tags


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
