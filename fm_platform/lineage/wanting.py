"""What is asked of a project's slots: the functions, the world outside the ledger, one want."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fm_platform.lineage.causes import Where, nowhere
from fm_platform.lineage.records import Recipe, Slot


class Function(Protocol):
    """What must be known of a labeling function."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def fingerprint(self) -> str:
        """Hash of its source, parameters and resources."""

    @property
    def needs(self) -> Sequence[str]:
        """What it learns from: `gold`, `votes`, both, or nothing."""


@dataclass(frozen=True)
class Probe:
    """How to look at the world outside the ledger. Each is called as rarely as possible.

    Attributes:
        days: The days the project should have, e.g. all that a source has rows for.
        source_ids: Day -> source name -> id of what it holds.
        functions: The labeling functions, in order.
        base: Content hash of the base model; with candidates of the first, which embeds texts.
        candidates: Label -> content hash of the candidates that can be read.
        measured: Day of a choice of the base -> the outcomes that it goes by.
        chosen: Id of a choice -> what was chosen.
        unit: Hash of the file of the hand-made set; empty where none is declared.
        chat: Hash of the chat template in the folder of the base model; empty where none is used.
        where: Where a change of the project, or of the code, was made; see `causes.Where`.
    """

    days: Callable[[], Sequence[str]]
    source_ids: Callable[[str], Mapping[str, str]]
    functions: Callable[[], Sequence[Function]]
    base: Callable[[], str]
    candidates: Callable[[], Mapping[str, str]] = dict
    measured: Callable[[str], Mapping[str, Sequence[float]]] = lambda _day: {}
    chosen: Callable[[int], Mapping[str, Any]] = lambda _version_id: {}
    chat: Callable[[], str] = str
    unit: Callable[[], str] = str
    where: Where = nowhere


@dataclass(frozen=True)
class Wanted:
    """What one slot should be.

    Attributes:
        recipe: Made of the heads in use; None where it cannot be known yet.
        reads: Gives the slots it reads, nearest first; a stale one makes this one stale.
        derive: (key, recipe of value): where the recipe waits for a summary that the ledger may
            know by `key`.
        waits: In words, what an unknown summary is about.
    """

    slot: Slot
    reads: Callable[[], Iterable[Slot]]
    recipe: Recipe | None = None
    derive: tuple[str, Callable[[str], Recipe]] | None = None
    waits: str = ""
