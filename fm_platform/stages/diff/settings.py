"""Configuration, packages and code: what differs between two recipes beside their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages.diff.records import CodeChange, PackageChange, SettingChange

Describe = Callable[[str], Any]
Pair = tuple[ArtifactVersion, ArtifactVersion]

ABSENT = "(absent)"
_KEYS = ("name", "rule", "id", "source")  # what tells the members of a list of mappings apart


class Leaf(NamedTuple):
    """One value that differs; `ABSENT` where a side has none."""

    path: str
    before: Any
    after: Any


def leaves(before: Any, after: Any, path: str = "") -> Iterator[Leaf]:
    """Yield every value that differs between two JSON values, in the order of their paths.

    Lists of mappings that have a name are compared by name, other lists as a whole.

    Example:
        >>> [tuple(leaf) for leaf in leaves({"a": {"b": 1}}, {"a": {"b": 2}})]
        [('a.b', 1, 2)]
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}, key=str):
            below = f"{path}.{key}" if path else str(key)
            yield from leaves(before.get(key, ABSENT), after.get(key, ABSENT), below)
        return
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        left, right = _by_name(before), _by_name(after)
        if left is not None and right is not None and list(left) != list(right) and (
            sorted(left) == sorted(right)
        ):  # fmt: skip
            yield Leaf(f"{path} (order)", list(left), list(right))
        if left is not None and right is not None:
            for key in dict.fromkeys([*left, *right]):
                yield from leaves(left.get(key, ABSENT), right.get(key, ABSENT), f"{path}[{key}]")
        elif list(before) != list(after):
            yield Leaf(path, list(before), list(after))
        return
    if before != after:
        yield Leaf(path, before, after)


def _by_name(items: Sequence[Any]) -> dict[str, Any] | None:
    """Return name -> member of a list of mappings; None where they have no names of their own."""
    if not all(isinstance(item, Mapping) for item in items):
        return None
    for key in _KEYS:
        names = [item.get(key) for item in items]
        if all(isinstance(n, str) for n in names) and len(set(names)) == len(names):
            return dict(zip(map(str, names), items, strict=True))
    return None


def setting_changes(pairs: Iterable[Pair]) -> tuple[SettingChange, ...]:
    """Return the settings that differ between recipes, each with the kinds made with it.

    The fingerprint of a labeling function is no setting: its source is compared instead.
    """
    found: dict[tuple[str, str], tuple[Leaf, set[str]]] = {}
    for before, after in pairs:
        for leaf in leaves(before.config, after.config):
            if after.kind == "votes" and leaf.path == "function":
                continue
            _, kinds = found.setdefault((leaf.path, repr(leaf[1:])), (leaf, set()))
            kinds.add(after.kind)
        if before.seed != after.seed:
            leaf = Leaf("seed", before.seed, after.seed)
            found.setdefault(("seed", repr(leaf)), (leaf, set()))[1].add(after.kind)
    return tuple(
        SettingChange(*leaf, tuple(sorted(kinds)))
        for leaf, kinds in (found[key] for key in sorted(found))
    )


def environment_leaves(before: Any, after: Any) -> list[Leaf]:
    """Return what differs between two recorded environments: packages, Python, machine, lock."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return []
    left, right = (
        {**dict(e), **dict(e.get("packages", {})), "packages": None} for e in (before, after)
    )
    return list(leaves(left, right))


def package_changes(
    pairs: Iterable[Pair], target: Pair, describe: Describe
) -> tuple[PackageChange, ...]:
    """Return every package that differs where the two were made.

    Args:
        pairs: Recipes that differ: packages in their environments may alter the content.
        target: The two versions compared: all that was installed then.
        describe: Fingerprint -> what it stands for.
    """
    found: dict[str, Leaf] = {}
    matters: dict[str, set[str]] = {}
    for before, after in pairs:
        if before.environment != after.environment:
            differing = environment_leaves(
                describe(before.environment), describe(after.environment)
            )
            for leaf in differing:
                found[leaf.path] = leaf
                matters.setdefault(leaf.path, set()).add(after.kind)
    first, second = (v.run_environment for v in target)
    if first is not None and second is not None and first != second:
        for leaf in environment_leaves(describe(first), describe(second)):
            found.setdefault(leaf.path, leaf)
    return tuple(
        PackageChange(
            name, _text(found[name].before), _text(found[name].after),
            tuple(sorted(matters.get(name, ()))),
        )
        for name in sorted(found, key=lambda name: (name not in matters, name))
    )  # fmt: skip


def code_changes(pairs: Iterable[Pair], describe: Describe) -> tuple[CodeChange, ...]:
    """Return the modules whose code differs, with the kinds of artifacts that they make."""
    found: dict[tuple[str, str | None, str | None], set[str]] = {}
    memo: dict[str, Any] = {}

    def closure(code: str) -> Mapping[str, str]:
        if code not in memo:
            memo[code] = describe(code)
        known = memo[code]
        return known if isinstance(known, Mapping) else {}

    for before, after in pairs:
        if before.code == after.code:
            continue
        left, right = closure(before.code), closure(after.code)
        names = {n for n in {*left, *right} if left.get(n) != right.get(n)} or {"(not recorded)"}
        for name in names:
            found.setdefault((name, left.get(name), right.get(name)), set()).add(after.kind)
    return tuple(CodeChange(*key, tuple(sorted(found[key]))) for key in sorted(found, key=str))


def _text(value: Any) -> str | None:
    return None if value is ABSENT or value is None else str(value)
