"""Load a project file with every mistake at once, each with its line."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fm_platform.errors import SpecError, SpecProblem
from fm_platform.spec.models import ProjectSpec

COMPONENT = "assets.project.ContinuousTraining"
MAX_BYTES = 1 << 20
MAX_DEPTH = 64
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class LoadedProject:
    """A project: its spec, and the folder and file that declare it."""

    spec: ProjectSpec
    directory: Path
    file: Path


def discover(root: Path) -> list[Path]:
    """Return the project files below `root`/assets/defs, sorted by name."""
    return sorted((root / "assets" / "defs").glob("*/defs.yaml"))


def load_spec(path: Path) -> LoadedProject:
    """Load a project file.

    Raises:
        SpecError: With every mistake, its file, line, and the allowed values.
    """
    shown = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(
            [SpecProblem(shown, None, "", f"cannot be read: {error.strerror}")]
        ) from None
    if len(data) > MAX_BYTES:
        raise SpecError(
            [SpecProblem(shown, None, "", f"{len(data)} bytes; at most {MAX_BYTES} are read")]
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SpecError([SpecProblem(shown, line, "", "not UTF-8 text")]) from None
    return LoadedProject(parse_spec(text, shown), path.parent, path)


def parse_spec(text: str, file: str) -> ProjectSpec:
    """Return the spec that a project file's text declares.

    Raises:
        SpecError: With every mistake.
    """
    tree = _Tree(text, file)
    if tree.problems:
        raise SpecError(tree.problems)
    document = tree.value
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise SpecError([SpecProblem(file, 1, "attributes", "a mapping is required")])
    problems: list[SpecProblem] = []
    if document.get("type") != COMPONENT:
        problems.append(tree.problem(("type",), f"must be {COMPONENT}"))
    problems += [
        tree.problem((key,), f"unknown field{_suggest(str(key), ('type', 'attributes'))}")
        for key in document
        if key not in ("type", "attributes")
    ]
    spec: ProjectSpec | None = None
    try:
        spec = ProjectSpec.model_validate(document["attributes"])
    except ValidationError as error:
        problems += [tree.of_pydantic(item) for item in error.errors()]
        wrong = [tree.in_document(("attributes", *item["loc"]))[1:] for item in error.errors()]
        spec = _without_wrong_parts(document["attributes"], wrong)
    if spec is not None:
        problems += [
            tree.problem(("attributes", *location), message)
            for location, message in spec.cross_problems()
        ]
    if problems:
        raise SpecError(sorted(problems, key=lambda p: (p.line or 0, p.path)))
    if spec is None:
        raise SpecError([SpecProblem(file, 1, "attributes", "no project is declared")])
    return spec


def _without_wrong_parts(
    attributes: dict[str, Any], wrong: Iterable[Location]
) -> ProjectSpec | None:
    """Return the spec of the parts that are right, so that mistakes between them show as well."""
    rest = copy.deepcopy(attributes)
    for location in sorted(wrong, key=lambda place: [str(part) for part in place], reverse=True):
        holder: Any = rest
        for part in location[:-1]:
            holder = holder[part]
        if location and isinstance(holder, dict):
            holder.pop(location[-1], None)
    try:
        return ProjectSpec.model_validate(
            {"name": "project", "calendar": {"start": "2000-01-01"}} | rest
        )
    except ValidationError:
        return None


class _Tree:
    """A YAML document as values, with the line of each value and key."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[SpecProblem] = []
        self.lines: dict[Location, int] = {}
        self.value: Any = None
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in _events(text)):
                self.problems.append(SpecProblem(file, None, "", "aliases (*name) are refused"))
                return
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else None
            reason = getattr(error, "problem", None) or str(error)
            self.problems.append(SpecProblem(file, line, "", f"not YAML: {reason}"))
            return
        except _TooDeepError as error:
            self.problems.append(
                SpecProblem(file, error.line, "", f"deeper than {MAX_DEPTH} levels")
            )
            return
        if node is None:
            self.problems.append(SpecProblem(file, 1, "", "the file is empty"))
            return
        self.value = self._build(node, ())

    def _build(self, node: yaml.Node, location: Location) -> Any:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN_TAGS:
            self.problems.append(
                SpecProblem(self.file, node.start_mark.line + 1, _dotted(location),
                            f"could not determine a constructor for the tag {node.tag!r}")
            )  # fmt: skip
        if isinstance(node, yaml.MappingNode):
            found: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = self._build(key_node, (*location, "(key)"))
                line = key_node.start_mark.line + 1
                if not isinstance(key, (str, int, float, bool)):
                    self.problems.append(SpecProblem(self.file, line, "", "a key must be a word"))
                    continue
                here: Location = (*location, str(key) if isinstance(key, float) else key)
                if key in found:
                    self.problems.append(
                        SpecProblem(self.file, line, _dotted(here), "this key stands here twice")
                    )
                self.lines[here] = line
                found[key] = self._build(value_node, here)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*location, i)) for i, item in enumerate(node.value)]
        try:
            return yaml.SafeLoader("").construct_object(node)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", None) or str(error)
            self.problems.append(
                SpecProblem(self.file, node.start_mark.line + 1, _dotted(location), str(reason))
            )
            return None

    def line(self, location: Location) -> int:
        """Return the line of the nearest value that the file holds."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def problem(self, location: Location, message: str) -> SpecProblem:
        """Return a problem at a location of the document."""
        shown = location[1:] if location[:1] == ("attributes",) else location
        return SpecProblem(self.file, self.line(location), _dotted(shown), message)

    def of_pydantic(self, item: Any) -> SpecProblem:
        """Return one pydantic error with its line and the allowed names."""
        raw: Location = ("attributes", *item["loc"])
        location = self.in_document(raw)
        message = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field" + _suggest(str(raw[-1]), _fields_at(item["loc"][:-1]))
        elif item["type"] == "missing":
            message = "is required"
        elif "input" in item and isinstance(item["input"], (str, int, float, bool)):
            message += f" (found {item['input']!r})"
        return self.problem(location, message)

    def in_document(self, location: Location) -> Location:
        """Drop what pydantic adds: the tag of a union's member."""
        value: Any = self.value
        kept: list[str | int] = []
        for i, part in enumerate(location):
            inside = (isinstance(value, dict) and part in value) or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            if inside:
                value = value[part]
            elif i < len(location) - 1:
                continue
            kept.append(part)
        return tuple(kept)


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(line)


def _events(text: str) -> Iterator[yaml.Event]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                raise _TooDeepError(mark.line + 1 if mark else 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        yield event


def _dotted(location: Iterable[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fields_at(location: Iterable[str | int]) -> list[str]:
    """Return the field names of the part at a location, as far as they can be told."""
    model: type[BaseModel] = ProjectSpec
    tag = ""
    for part in location:
        if isinstance(part, int):
            continue
        if part in model.model_fields:
            inner = list(_models_in(model.model_fields[part].annotation))
            if not inner:
                return []
            model = inner[0]
            members = inner
        else:
            tag = str(part)
            members = [
                m for m in members if tag in re.findall(r"'([a-z_]+)'", repr(m.model_fields))
            ] or members
            model = members[0]
    return sorted(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _suggest(name: str, allowed: Iterable[str]) -> str:
    listed = list(allowed)
    if not listed:
        return ""
    close = difflib.get_close_matches(name, listed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (allowed: {', '.join(listed)})"
