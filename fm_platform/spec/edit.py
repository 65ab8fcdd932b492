"""Add labeling functions to a project file as a person would: comments and layout stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fm_platform.errors import FMError

_WIDTH = 96


def as_yaml(declared: Mapping[str, Any], indent: int = 0) -> str:
    """Return one labeling function as an item of the list in a project file.

    Example:
        >>> print(as_yaml({"kind": "keyword", "words": ["a", "b"]}, 2), end="")
          - kind: keyword
            words: [a, b]
    """
    body = yaml.safe_dump(
        dict(declared), sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None
    )
    lines = body.splitlines()
    space = " " * indent
    return "".join(
        f"{space}{'- ' if i == 0 else '  '}{line}\n" if line else "\n"
        for i, line in enumerate(lines)
    )


def with_functions(text: str, added: Sequence[Mapping[str, Any]]) -> str:
    """Return a project file with labeling functions added at the end of their list.

    Args:
        text: The file.
        added: What each declares.

    Raises:
        FMError: If the list is written in one line, `[...]`, so that a person must add to it.
    """
    document: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    attributes = _value(document, "attributes") or document
    labeling = _value(attributes, "labeling")
    functions = None if labeling is None else _value(labeling, "functions")
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if functions is not None:
        if functions.flow_style or not functions.value:
            raise _by_hand(added)
        at, space, head = _last_line(functions) + 1, functions.start_mark.column, ""
    elif labeling is not None:
        if not isinstance(labeling, yaml.MappingNode) or labeling.flow_style or not labeling.value:
            raise _by_hand(added)
        own = labeling.start_mark.column
        at, space, head = _last_line(labeling) + 1, own + 2, f"{' ' * own}functions:\n"
    else:
        if attributes.flow_style:
            raise _by_hand(added)
        own = attributes.start_mark.column
        at, space = _last_line(attributes) + 1, own + 4
        head = f"{' ' * own}labeling:\n{' ' * (own + 2)}functions:\n"
    block = head + "".join(as_yaml(one, space) for one in added)
    result = "".join([*lines[:at], block, *lines[at:]])
    _check(text, result, added)
    return result


def _value(node: Any, key: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return value
    return None


def _last_line(node: Any) -> int:
    """Return the line, from 0, on which the content of a node ends: no comment below it."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        end = node.end_mark
        # a block scalar ends where the next line begins
        return int(end.line if end.column else end.line - 1)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)


def _check(before: str, after: str, added: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a text that says anything but what was meant."""
    was, now = yaml.safe_load(before), yaml.safe_load(after)
    for document in (was, now):
        document.setdefault("attributes", {})
    plain = was["attributes"] or was
    labeling = plain.setdefault("labeling", None) or {}
    labeling["functions"] = [*(labeling.get("functions") or ()), *map(dict, added)]
    plain["labeling"] = labeling
    if was != now:
        raise _by_hand(added)


def _by_hand(added: Sequence[Mapping[str, Any]]) -> FMError:
    return FMError(
        "the list of labeling functions is not written one below the other",
        where="labeling.functions of the project file",
        next_step="add this by hand:\n" + "".join(as_yaml(one, 2) for one in added),
    )
