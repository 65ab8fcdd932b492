"""The classes of a project, and what became of those that it had before.

A name means one thing for ever: one that is gone does not come back. So a label of any time can
be read today: as one class, as one of several (the class was split), or as none (it was removed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from pydantic import Field, field_validator, model_validator

from fm_platform.spec.part import Name, Part

OPERATIONS = ("add", "remove", "rename", "merge", "split")


class TaxonomyChange(Part):
    """What led to one version of the classes. Each class takes part in one operation at most.

    Attributes:
        version: The version it leads to.
        add: New class -> classes under which its rows went before; none for rows of a new kind.
        remove: Classes that are gone, their rows with them.
        rename: Old name -> new name.
        merge: Class -> two or more old classes that it takes in; it may be one of them.
        split: Old class -> two or more new ones.
        reason: Why, for the people who read it later.
    """

    version: int = Field(ge=2)
    add: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    remove: tuple[Name, ...] = ()
    rename: dict[Name, Name] = Field(default_factory=dict)
    merge: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    split: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    reason: str = ""

    @field_validator("add", mode="before")
    @classmethod
    def _list_of_new(cls, value: Any) -> Any:
        return dict.fromkeys(value, ()) if isinstance(value, (list, tuple)) else value

    @field_validator("merge", "split")
    @classmethod
    def _two_or_more(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, parts in value.items():
            if len(set(parts)) < 2:
                raise ValueError(f"{name!r} needs two or more different classes")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> TaxonomyChange:
        if not any(getattr(self, operation) for operation in OPERATIONS):
            raise ValueError(f"name at least one of {', '.join(OPERATIONS)}")
        for old, parts in self.split.items():
            if old in parts:
                raise ValueError(
                    f"a part of {old!r} cannot be called {old!r} as well: labels of before and "
                    "after could not be told apart"
                )
        return self

    def told(self) -> str:
        """Return the change in words.

        Example:
            >>> TaxonomyChange(version=2, split={"good": ["fine", "great"]}).told()
            'split good into fine, great'
        """
        words = [
            f"add {name}" + (f" (before among {', '.join(told)})" if told else "")
            for name, told in self.add.items()
        ]
        words += [f"remove {name}" for name in self.remove]
        words += [f"rename {old} to {new}" for old, new in self.rename.items()]
        words += [f"merge {', '.join(olds)} into {new}" for new, olds in self.merge.items()]
        words += [f"split {old} into {', '.join(news)}" for old, news in self.split.items()]
        return "; ".join(words)

    def before(self, classes: Iterable[str]) -> set[str]:
        """Return the classes before this change, given those after it.

        Raises:
            ValueError: If they cannot be those after it.
        """
        found = set(classes)
        came = [
            *self.add,
            *self.rename.values(),
            *(n for parts in self.split.values() for n in parts),
        ]
        went = [*self.remove, *self.rename, *self.split]
        went += [old for new, olds in self.merge.items() for old in olds if old != new]
        for name in (*came, *self.merge):
            if name not in found:
                raise ValueError(f"{name!r} should be a class in version {self.version}")
        for name in went:
            if name in found:
                raise ValueError(f"{name!r} should be no class any more in version {self.version}")
        touched = [*came, *went, *self.merge]
        twice = sorted({name for name in touched if touched.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} takes part in more than one operation")
        kept_by_merge = {new for new, olds in self.merge.items() if new in olds}
        found = (found - set(came) - (set(self.merge) - kept_by_merge)) | set(went)
        for name, among in self.add.items():
            for old in among:
                if old not in found:
                    raise ValueError(f"{old!r}, among which {name!r} was, was no class before")
        return found

    def after(self, name: str) -> tuple[str, ...]:
        """Return what a class of the version before may be in this one."""
        hidden = tuple(new for new, among in self.add.items() if name in among)
        merged = [new for new, olds in self.merge.items() if name in olds]
        if name in self.remove:
            return hidden
        if name in self.split:
            return (*self.split[name], *hidden)
        return (self.rename.get(name) or (merged[0] if merged else name), *hidden)


class Taxonomy(Part):
    """The versioned list of classes. Class index = position in `classes`.

    `changes` tells how they came about, oldest first, one for each version since the oldest that
    any label is of. Without it labels of other classes are of no use.
    """

    version: int = Field(default=1, ge=1)
    classes: tuple[Name, ...] = Field(min_length=2, max_length=127)
    changes: tuple[TaxonomyChange, ...] = ()

    @field_validator("classes")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"class named more than once: {', '.join(twice)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Taxonomy:
        versions = [change.version for change in self.changes]
        if versions and versions[-1] != self.version:
            raise ValueError(
                f"the last change leads to version {versions[-1]}, the taxonomy says {self.version}"
            )
        if any(later != earlier + 1 for earlier, later in pairwise(versions)):
            raise ValueError("changes must be one a version, oldest first")
        known = self._classes_by_version
        listed = [known[version] for version in sorted(known)]
        for i, (earlier, later) in enumerate(pairwise(listed)):
            back = sorted((set().union(*listed[: i + 1]) - earlier) & (later - earlier))
            if back:
                raise ValueError(f"{back[0]!r} was a class before: a name that is gone stays gone")
        return self

    @cached_property
    def _classes_by_version(self) -> dict[int, set[str]]:
        found = {self.version: set(self.classes)}
        for change in reversed(self.changes):
            found[change.version - 1] = change.before(found[change.version])
        return found

    @cached_property
    def _meanings(self) -> dict[int, dict[str, tuple[str, ...]]]:
        """Version -> class of it -> what it may be today, in the order of the classes."""
        order = {name: i for i, name in enumerate(self.classes)}
        today: dict[str, tuple[str, ...]] = {name: (name,) for name in self.classes}
        found = {self.version: today}
        for change in reversed(self.changes):
            later = found[change.version]
            found[change.version - 1] = {
                name: tuple(
                    sorted({end for new in change.after(name) for end in later[new]},
                           key=order.__getitem__)
                )
                for name in sorted(self._classes_by_version[change.version - 1])
            }  # fmt: skip
        return found

    def classes_of(self, version: int) -> frozenset[str]:
        """Return the classes of a version; empty where it is not known."""
        return frozenset(self._classes_by_version.get(version, ()))

    def meaning(self, label: str, version: int | None = None) -> tuple[str, ...] | None:
        """Return the classes of today that a label may be.

        Args:
            label: Name of a class, of today or before.
            version: The version of the classes that it was given in; None where that is not
                known: then a class of today is itself.

        Returns:
            One class, several where it was split, none where it was removed; None for a label
            that was never a class.

        Example:
            >>> change = {"version": 2, "split": {"good": ["fine", "great"]}}
            >>> taxonomy = Taxonomy(version=2, classes=["bad", "fine", "great"], changes=[change])
            >>> taxonomy.meaning("good"), taxonomy.meaning("bad"), taxonomy.meaning("ugly")
            (('fine', 'great'), ('bad',), None)
        """
        if version is not None and version in self._meanings:
            return self._meanings[version].get(label)
        for known in sorted(self._meanings, reverse=True):
            if label in self._meanings[known]:
                return self._meanings[known][label]
        return None

    @cached_property
    def former(self) -> Mapping[str, tuple[str, ...]]:
        """Classes that are gone -> what each may be today, sorted by name."""
        names = set().union(*self._classes_by_version.values()) - set(self.classes)
        return {name: self.meaning(name) or () for name in sorted(names)}

    @cached_property
    def single(self) -> Mapping[str, str]:
        """Labels of any time that are one class today -> that class."""
        names = [*self.classes, *self.former]
        return {name: found[0] for name in names if len(found := self.meaning(name) or ()) == 1}

    @cached_property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Sets of two or more class indices that a label of some time may stand for, sorted."""
        index = {name: i for i, name in enumerate(self.classes)}
        found = {
            tuple(index[name] for name in meaning)
            for of_version in self._meanings.values()
            for meaning in of_version.values()
            if len(meaning) > 1
        }
        return tuple(sorted(found))
