"""One registration mechanism for everything pluggable.

Built-ins and third parties use the same door: a built-in registers on import, a third party
declares an entry point in the group of the registry, whose value is the object to register.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from fm_platform.errors import RegistryError

T = TypeVar("T")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Registry(Generic[T]):
    """Names of one kind of plug-in, e.g. source connectors.

    Example:
        >>> methods: Registry[str] = Registry("merge method", "fm_platform.merge_methods")
        >>> methods.add("mean", "a value")
        >>> methods.get("mean")
        'a value'
    """

    def __init__(self, what: str, entry_point_group: str) -> None:
        self.what = what
        self.entry_point_group = entry_point_group
        self._items: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str, item: T) -> None:
        """Register `item`; a malformed or taken name raises RegistryError."""
        if not _NAME.fullmatch(name):
            raise RegistryError(
                f"{name!r} is no name for a {self.what}",
                expected="lower-case letters, digits and _, starting with a letter",
            )
        if name in self._items and self._items[name] is not item:
            raise RegistryError(
                f"{self.what} {name!r} is registered twice", found=self._items[name]
            )
        self._items[name] = item

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates."""

        def decorate(item: T) -> T:
            self.add(name, item)
            return item

        return decorate

    def get(self, name: str) -> T:
        """Return the item called `name`, or raise RegistryError listing what exists."""
        if name not in self._items:
            self._load_entry_points()
        try:
            return self._items[name]
        except KeyError:
            raise RegistryError(
                f"there is no {self.what} {name!r}", expected=", ".join(self.names())
            ) from None

    def names(self) -> list[str]:
        """Return all names, sorted, third parties included."""
        self._load_entry_points()
        return sorted(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _load_entry_points(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for point in sorted(entry_points(group=self.entry_point_group), key=lambda p: p.name):
            self.add(point.name, point.load())
