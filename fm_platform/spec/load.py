"""Load a project file with every mistake at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fm_platform.errors import SpecError, SpecProblem
from fm_platform.spec.base_model import BaseModelSpec
from fm_platform.spec.checks import Location, Problem, cross_problems, suggest
from fm_platform.spec.models import ProjectSpec
from fm_platform.spec.tree import Tree, dotted

COMPONENT = "assets.project.ContinuousTraining"
_QUOTED = re.compile(r"'([^']*)'")

Check = Callable[[ProjectSpec], Iterable[Problem]]
"""A look at a spec by a layer above, which knows more: the options of a connector."""


@dataclass(frozen=True)
class LoadedProject:
    """A project: its spec, and the folder and file that declare it.

    Attributes:
        embeds: The base that embeds rows, where another one was chosen for the models.
    """

    spec: ProjectSpec
    directory: Path
    file: Path
    embeds: BaseModelSpec | None = None


def discover(root: Path) -> list[Path]:
    """Return the project files below `root`/assets/defs, sorted by name."""
    return sorted((root / "assets" / "defs").glob("*/defs.yaml"))


def load_spec(path: Path, checks: Sequence[Check] = ()) -> LoadedProject:
    """Load a project file.

    Args:
        path: The file.
        checks: What else to look for; see `Check`.

    Raises:
        SpecError: With every mistake, its file, line, and the allowed values.
    """
    spec = _spec_of(Tree.of_file(path), checks)
    return LoadedProject(spec, path.parent, path)


def parse_spec(text: str, file: str, checks: Sequence[Check] = ()) -> ProjectSpec:
    """Return the spec that a project file's text declares; `file` is its name for messages.

    Raises:
        SpecError: With every mistake.
    """
    return _spec_of(Tree(text, file), checks)


def _spec_of(tree: Tree, checks: Sequence[Check]) -> ProjectSpec:
    if tree.problems:
        raise SpecError(tree.problems)
    document = tree.value
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise SpecError([SpecProblem(tree.file, 1, "attributes", "a mapping is required")])
    attributes = document["attributes"]
    found: list[tuple[Location, str]] = []
    if document.get("type") != COMPONENT:
        found.append((("type",), f"must be {COMPONENT}"))
    for key in document:
        if key not in ("type", "attributes"):
            found.append(((key,), "unknown field" + suggest(str(key), ("type", "attributes"))))
    spec: ProjectSpec | None = None
    below: list[Problem] = cross_problems(attributes)
    try:
        spec = ProjectSpec.model_validate(attributes)
    except ValidationError as error:
        found += [_of_pydantic(tree, item) for item in error.errors()]
    else:
        below = spec.cross_problems()
    for check in checks:
        below += check(spec) if spec is not None else _of_valid_sources(attributes, check)
    found += [(("attributes", *location), message) for location, message in below]
    if found or spec is None:
        raise SpecError(_sorted(_problem(tree, *item) for item in found))
    return spec


def _of_valid_sources(attributes: dict[str, Any], check: Check) -> Iterable[Problem]:
    """Run a check on the sources alone, each with its place, where the rest is wrong."""
    rest = {"taxonomy": {"classes": ["a", "b"]}, "calendar": {"start": "2000-01-01"}}
    sources = attributes.get("sources")
    for i, source in enumerate(sources if isinstance(sources, list) else ()):
        try:
            spec = ProjectSpec.model_validate({"name": "project", "sources": [source], **rest})
        except ValidationError:
            continue
        for location, message in check(spec):
            if location[:2] == ("sources", 0):
                yield ("sources", i, *location[2:]), message


def _problem(tree: Tree, location: Location, message: str) -> SpecProblem:
    shown = location[1:] if location[:1] == ("attributes",) else location
    return SpecProblem(tree.file, tree.line(location), dotted(shown), message)


def _sorted(problems: Iterable[SpecProblem]) -> list[SpecProblem]:
    unique = {(p.line or 0, p.path, p.message): p for p in problems}
    return [unique[key] for key in sorted(unique)]


def _of_pydantic(tree: Tree, item: Any) -> tuple[Location, str]:
    """Return one pydantic error with its place, the value and the allowed words."""
    raw: Location = ("attributes", *item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    kind, value = item["type"], item.get("input")
    location = tree.in_document(raw)
    if kind == "extra_forbidden":
        return location, "unknown field" + suggest(str(raw[-1]), _fields_at(item["loc"][:-1]))
    if kind == "missing":
        return location, "is required"
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
    if isinstance(value, (str, int, float, bool)) and repr(value) not in message:
        message += f" (found {str(value)[:80]!r})"
    return location, message


def _fields_at(location: Iterable[str | int]) -> list[str]:
    """Return the field names of the part at a location, following the declared types."""
    annotation: Any = ProjectSpec
    for part in location:
        annotation = _inside(annotation, part)
    return sorted(annotation.model_fields) if _is_model(annotation) else []


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
