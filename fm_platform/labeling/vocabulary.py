"""Class names as votes: those of today, and those of before as what they mean today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Answer = int | tuple[int, ...]
"""A class index, or some of which one is right; () where a class is gone: nothing is said."""


class Vocabulary(tuple[str, ...]):
    """The classes of today, in order, that also know what former classes mean.

    Example:
        >>> words = Vocabulary.of(["bad", "fine", "great"], {"good": ["fine", "great"]})
        >>> list(words), answers(words)["good"]
        (['bad', 'fine', 'great'], (1, 2))
    """

    former: Mapping[str, tuple[str, ...]] = {}

    @classmethod
    def of(cls, classes: Iterable[str], former: Mapping[str, Iterable[str]]) -> Vocabulary:
        """Return the classes with their history (`Taxonomy.former`)."""
        made = cls(classes)
        made.former = {name: tuple(told) for name, told in former.items()}
        return made


def answers(classes: Sequence[str]) -> dict[str, Answer]:
    """Return what each name that a labeling function may answer says in the classes of today."""
    found: dict[str, Answer] = {name: i for i, name in enumerate(classes)}
    for name, told in (classes.former if isinstance(classes, Vocabulary) else {}).items():
        members = tuple(i for i, today in enumerate(classes) if today in told)
        found[name] = members[0] if len(members) == 1 else members
    return found


def members(answers_of: Mapping[str, Answer], names: str | Iterable[str]) -> tuple[int, ...]:
    """Return the classes that a name, or several of which one is right, leave open.

    Raises:
        KeyError: If a name was never a class.
    """
    found: set[int] = set()
    for name in (names,) if isinstance(names, str) else names:
        told = answers_of[name]
        found.update((told,) if isinstance(told, int) else told)
    return tuple(sorted(found))
