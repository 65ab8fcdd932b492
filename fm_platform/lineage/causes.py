"""Say in words what differs between what was built and what is wanted now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fm_platform.lineage.records import ArtifactVersion, Input, Recipe, Slot

Contents = Mapping[tuple[str, str, str | None, str | None], str]
"""(role, name, partition, part) of an input -> content hash."""
Describe = Callable[[str], Any]
Where = Callable[[str], str]
"""`inputs`, `project` or `code` -> e.g. ` at commit 0a1b2c3`: where a change of it was made."""
_SHOWN = 3
_VALUE_CHARS = 40


@dataclass(frozen=True)
class Before:
    """What a recorded version was made from; `inputs` None where they are known to be equal."""

    inputs: Contents | None
    config: Mapping[str, Any]
    code: str
    environment: str
    seed: int | None

    @classmethod
    def of(cls, version: ArtifactVersion) -> Before:
        """Return what a version with its inputs was made from."""
        inputs = contents_of(version.inputs)
        return cls(inputs, version.config, version.code, version.environment, version.seed)


def contents_of(inputs: Iterable[Input]) -> Contents:
    """Return what was read of what."""
    return {(i.role, i.name, i.partition, i.part): i.content_hash for i in inputs}


def contents_of_rows(rows: Iterable[Sequence[Any]]) -> Contents:
    """Return what was read of what, from rows of `lineage.rows.input_rows`."""
    return {
        (role, name, day or None, part or None): content
        for _, role, name, day, content, part, _ in rows
    }


def nothing_known(_hash: str) -> Any:
    """Describe no fingerprint."""
    return None


def nowhere(_what: str) -> str:
    """Tell of no place."""
    return ""


def differences(
    before: Before,
    recipe: Recipe | ArtifactVersion,
    describe: Describe = nothing_known,
    where: Where = nowhere,
) -> str:
    """Return the causes for which `recipe` is not what was built, most telling first.

    Args:
        before: What the version in use was made from.
        recipe: What is wanted now, or a later version.
        describe: Fingerprint -> what it stands for, e.g. `ledger.document`.
        where: Tells where a change of inputs, project or code was made.
    """
    moved = [] if before.inputs is None else input_changes(before.inputs, recipe.inputs)
    causes = [change + where("inputs") for change in moved]
    causes += [cause + where("project") for cause in _config(before.config, recipe)]
    if before.code != recipe.code:
        modules = _differing(describe(before.code), describe(recipe.code))
        named = f" ({some(sorted(modules))})" if modules else ""
        causes.append(f"its code changed{named}{where('code')}")
    if before.environment != recipe.environment:
        causes.append(_environment(describe(before.environment), describe(recipe.environment)))
    if before.seed != recipe.seed:
        causes.append(f"seed changed ({before.seed} -> {recipe.seed})")
    return "; ".join(causes) or "its recipe changed"


def input_changes(before: Contents, new: Iterable[Input]) -> Iterable[str]:
    """Yield e.g. `raw 2026-01-02 changed`, for inputs that changed, came and went."""
    after = contents_of(new)
    changed = [key for key in after if key in before and before[key] != after[key]]
    came = [key for key in after if key not in before]
    went = [key for key in before if key not in after]
    for verb, keys in (("changed", changed), ("is new", came), ("is gone", went)):
        if keys:
            named = some([input_name(*key) for key in sorted(keys, key=_order)])
            yield f"{named} {verb}"


def _order(key: tuple[str, str, str | None, str | None]) -> tuple[str, str, str, str]:
    role, name, partition, part = key
    return (partition or "", role, name, part or "")


def input_name(role: str, name: str, partition: str | None, part: str | None) -> str:
    """Return e.g. `votes vader 2026-01-02 part mail`."""
    words = [name if name == role else f"{role} {name}"]
    if partition:
        words.append(partition)
    if part:
        words.append(f"part {part}")
    return " ".join(words)


def _config(before: Mapping[str, Any], recipe: Recipe | ArtifactVersion) -> list[str]:
    after = dict(recipe.config)
    if before == after:
        return []
    if recipe.kind == "votes" and before.get("function") != after.get("function"):
        return [f"labeling function {recipe.name} changed"]
    changes = _leaves(before, after)
    if not changes:  # equal as JSON, e.g. a tuple and a list
        return []
    return [f"configuration changed ({some(changes)})"]


def _leaves(old: Any, new: Any, path: str = "") -> list[str]:
    """Return `path: old -> new` of every value that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}, key=str):
            below = f"{path}.{key}" if path else str(key)
            found += _leaves(old.get(key), new.get(key), below)
        return found
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        if list(old) == list(new):
            return []
    elif old == new:
        return []
    return [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _environment(old: Any, new: Any) -> str:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return "packages or machine type changed"
    changes = _leaves(
        {**old, **dict(old.get("packages", {})), "packages": None},
        {**new, **dict(new.get("packages", {})), "packages": None},
    )
    return f"environment changed ({some(changes)})"


def _differing(old: Any, new: Any) -> set[str]:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return set()
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}


def some(items: Sequence[str]) -> str:
    """Return the first few of some words, and how many more there are."""
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def sentence(path: list[str], root: str, more: str) -> str:
    """Return e.g. `cleaned 2026-01-02 is stale, through weak_labels, raw: … changed`."""
    if not path:
        return root + (more if root.endswith("not built") else "")
    through = f", through {', '.join(path[1:])}" if path[1:] else ""
    return f"{path[0]}{more} is stale{through}: {root}"


def label(slot: Slot, below: Slot) -> str:
    """Name a slot; its day only where it is not that of the slot below."""
    kind, name, partition = slot
    shown = name if kind == name or name.endswith(f"_{kind}") else f"{kind} {name}"
    return f"{shown} {partition}" if partition and partition != below[2] else shown
