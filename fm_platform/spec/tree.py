"""A YAML document as plain values, with the line of every key and value.

Only what a project file needs is read: mappings, lists and scalars. Anchors, aliases, tags,
duplicate keys, deep nesting and large files are mistakes, so that a hostile file costs no more
than an honest one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from fm_platform.errors import SpecProblem
from fm_platform.spec.checks import Location

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 50_000
_PLAIN = {
    yaml.MappingNode: "tag:yaml.org,2002:map",
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
}
# The parser in C, where the package has it: the same documents, ten times faster.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Tree:
    """A document: `value`, and `problems` if it is none that is read.

    Args:
        text: The whole document.
        file: Name for messages.
    """

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[SpecProblem] = []
        self.value: Any = None
        self._lines: dict[Location, int] = {}
        self._scalars = yaml.SafeLoader("")
        try:
            self._refuse_events(text)
            node = None if self.problems else yaml.compose(text, Loader=_LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or getattr(error, "reason", None) or error
            before = text[: getattr(error, "position", 0)].count("\n")
            self._refuse((mark.line if mark else before) + 1, (), f"not YAML: {reason}")
            return
        if node is not None:
            self.value = self._build(node, ())
        elif not self.problems:
            self._refuse(1, (), "the file is empty")

    @classmethod
    def of_file(cls, path: Path) -> Tree:
        """Read a file; what cannot be read is a problem of the tree."""
        shown = str(path)
        try:
            with path.open("rb") as handle:
                data = handle.read(MAX_BYTES + 1)
        except OSError as error:
            return _unread(shown, None, f"cannot be read: {error.strerror}")
        if len(data) > MAX_BYTES:
            return _unread(shown, None, f"larger than {MAX_BYTES} bytes")
        try:
            return cls(data.decode("utf-8-sig"), shown)
        except UnicodeDecodeError as error:
            return _unread(shown, data[: error.start].count(b"\n") + 1, "not UTF-8 text")

    def line(self, location: Location) -> int:
        """Return the line of a value, or of the nearest value around it."""
        while location and location not in self._lines:
            location = location[:-1]
        return self._lines.get(location, 1)

    def in_document(self, location: Location) -> Location:
        """Return a location as the document has it, without what pydantic adds.

        Pydantic names the member of a union between an item and its field, and says behind a key
        that it is the key.
        """
        value: Any = self.value
        kept: list[str | int] = []
        for part in location:
            inside = (isinstance(value, dict) and part in value) or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            if inside:
                value = value[part]
                kept.append(part)
        return tuple(kept)

    def _refuse_events(self, text: str) -> None:
        """Look for what is refused before any node is built."""
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if count > MAX_NODES:
                return self._refuse(line, (), f"more than {MAX_NODES} keys and values")
            if isinstance(event, yaml.AliasEvent):
                return self._refuse(line, (), "aliases (*name) are refused: write the value again")
            if getattr(event, "anchor", None) is not None:
                return self._refuse(line, (), "anchors (&name) are refused")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    return self._refuse(line, (), f"deeper than {MAX_DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        return None

    def _build(self, node: yaml.Node, location: Location) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(location, line)
        if isinstance(node, yaml.CollectionNode) and node.tag != _PLAIN[type(node)]:
            self._refuse(line, location, f"could not determine a constructor for {node.tag!r}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*location, i)) for i, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", None) or str(error)
            return self._refuse(line, location, str(reason))
        except ValueError as error:  # 2026-13-45 looks like a date
            return self._refuse(line, location, f"{str(node.value)[:80]!r} is no value: {error}")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._build(key_node, (*location, "(key)"))
            if not isinstance(key, (str, int, float)):
                self._refuse(line, location, "a key must be a word")
                continue
            here = (*location, str(key) if isinstance(key, float) else key)
            if key in found:
                self._refuse(line, here, "this key stands here twice")
            self._lines[here] = line
            found[key] = self._build(value_node, here)
        return found

    def _refuse(self, line: int | None, location: Location, message: str) -> None:
        self.problems.append(SpecProblem(self.file, line, dotted(location), message))


def dotted(location: Iterable[str | int]) -> str:
    """Return a location as people write it: `sources[0].name`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _unread(file: str, line: int | None, message: str) -> Tree:
    tree = Tree("{}", file)
    tree.problems.append(SpecProblem(file, line, "", message))
    return tree
