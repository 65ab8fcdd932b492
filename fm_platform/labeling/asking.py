"""What labeling functions that ask somebody know beside the rows: a model, or people.

The cheapest question is the one that was answered before. Where answers are kept is told by who
runs the function; how many it had to ask is told back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fm_platform.labeling.outcome import LabelingContext

ASKS_MODELS = frozenset({"model", "nearest", "prompt"})
"""Kinds of functions that ask a model."""


@dataclass
class Tally:
    """How many questions a function asked, and how many it found answered."""

    asked: int = 0
    from_cache: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the fields as JSON values."""
        return {"asked": self.asked, "from_cache": self.from_cache}


@dataclass(frozen=True)
class AskingContext(LabelingContext):
    """What a function that asks a model is told.

    Attributes:
        answers: File of the answers that are kept; None keeps none.
        tally: Counts its questions.
        on_progress: Is told (questions answered, questions) while it asks.
    """

    answers: Path | None = None
    tally: Tally = field(default_factory=Tally)
    on_progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class PeopleContext(LabelingContext):
    """What a person answered.

    Attributes:
        said: Text key -> the classes of which one is right.
    """

    said: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
