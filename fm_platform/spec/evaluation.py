"""What is measured of a model, and what it must show to become champion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fm_platform.spec.behaviour import Behaviour
from fm_platform.spec.part import Name, Part


class Leaks(Part):
    """Test rows that repeat a row of train, of any day of the training window.

    Two texts are alike where the Jaccard similarity of their runs of `size` words (or characters)
    is at least `similarity`. They are counted; `set_aside` leaves these test rows out, with the
    reason in quarantine. Above `max_share` of the test rows nothing is evaluated.
    """

    action: Literal["report", "set_aside"] = "report"
    max_share: float = Field(default=1.0, ge=0, le=1)
    similarity: float = Field(default=0.7, gt=0, le=1)
    unit: Literal["words", "characters"] = "words"
    size: int = Field(default=3, ge=1, le=8)


class Evaluation(Part):
    """What is measured on gold test rows."""

    bootstrap_samples: int = Field(default=1000, ge=100)
    confidence_level: float = Field(default=0.95, gt=0.5, lt=1)
    calibration_bins: int = Field(default=15, ge=2)
    baselines: dict[Name, Name] = Field(
        default_factory=dict,
        description="system name in the table -> labeling function whose votes it is",
    )
    router: bool = Field(
        default=False, description="also the experts together, each text by who knows its kind"
    )
    behaviour: tuple[Behaviour, ...] = Field(default=(), description="what a model must do")
    leaks: Leaks = Leaks()
    seed: int = 0


class LargestGap(Part):
    """The best and the worst of the places differ by no more than this in the gate's metric."""

    between: Literal["source", "class"] = "source"
    at_most: float = Field(gt=0, le=1)


class FalsePositives(Part):
    """Of the gold rows that are not `label`, at most this share is called so."""

    label: Name
    at_most: float = Field(ge=0, lt=1)


class Constraints(Part):
    """What no champion may violate, however good it is.

    Attributes:
        largest_gap: Between sources, or between the F1 of classes.
        false_positives: Ceilings, each for one class.
        size_mb: Of the files of the merged model, in 10^6 bytes.
    """

    largest_gap: tuple[LargestGap, ...] = ()
    false_positives: tuple[FalsePositives, ...] = ()
    size_mb: float | None = Field(default=None, gt=0)


class Canary(Part):
    """A challenger that passed the gate first answers some live rows; people's labels then decide.

    Attributes:
        share: Of live rows, by the hash of their id, that it answers in the champion's place.
        days: New days of data on which both are compared before it becomes champion.
        points: Loss on the gold rows of these days, surely, at which it is refused.
    """

    share: float = Field(default=0.1, gt=0, lt=1)
    days: int = Field(default=3, ge=1, le=365)
    points: float = Field(default=0.0, ge=0, le=100)


class Gate(Part):
    """When a challenger becomes champion: not worse overall, and at none of the places.

    Attributes:
        places: Where it is compared beside overall: each source, the F1 of each class.
        together: The intervals hold for all places at once (Bonferroni), so that an equal
            challenger is refused no more often because there are many places.
        constraints: What holds without a champion, too.
        canary: What follows a passed gate; absent: the challenger is champion at once.
    """

    metric: Literal["f1_weighted", "f1_macro", "accuracy"] = "f1_weighted"
    tolerance: float = Field(default=0.0, ge=0, le=1)
    minimum: float | None = Field(default=None, ge=0, le=1)
    places: tuple[Literal["source", "class"], ...] = Field(default=("source",), min_length=1)
    together: bool = False
    constraints: Constraints = Constraints()
    canary: Canary | None = None
