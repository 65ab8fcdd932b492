"""What is measured of a model, and what it must show to become champion."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

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
    """The best and the worst of the places differ by no more than this in the gate's metric.

    The places are all sources, all classes (then it is about their F1), or some declared slices.
    """

    between: Literal["source", "class"] | tuple[Name, ...] = Field(
        default="source", description="source, class, or a list of declared slices"
    )
    at_most: float = Field(gt=0, le=1)

    @field_validator("between")
    @classmethod
    def _several(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(value, str) and len(set(value)) < max(2, len(value)):
            raise ValueError("two different slices are expected at least")
        return value


class FalsePositives(Part):
    """Of the gold rows that are not `label`, at most this share is called so."""

    label: Name
    at_most: float = Field(ge=0, lt=1)


class Latency(Part):
    """How long one text may wait for its answer, on the processor of the machine that evaluates.

    Texts of the test split, drawn by the seed of the evaluation, are answered one by one, from
    the text to its probabilities, by the merged model in memory. After a warm-up each is answered
    three times, in rounds, and its fastest time counts: what the model needs, not what other work
    of the machine adds. Of such texts `percentile` percent must take `at_most_ms` or less: shown
    with the confidence of the constraints, or 95 % where none is declared.
    """

    at_most_ms: float = Field(gt=0)
    percentile: float = Field(default=95.0, ge=50, le=99.9)
    threads: int = Field(default=1, ge=1, le=256)
    texts: int = Field(default=200, ge=10, le=10_000)


LATENCY_CONFIDENCE = 0.95
"""Of a statement on latency where the constraints declare none."""


class Constraints(Part):
    """What no champion may violate, however good it is.

    Attributes:
        largest_gap: Between sources, between the F1 of classes, or between slices.
        false_positives: Ceilings, each for one class.
        size_mb: Of the files of the merged model, in 10^6 bytes.
        latency: Of one answer.
        confidence: A gap or a share of false positives must be shown to be at most what is
            declared: its one-sided upper bound of this confidence is. Absent: its value is. A
            model that violates any of them then passes with a chance of 1 - confidence at most,
            however many there are (Berger 1982, intersection-union tests).
    """

    largest_gap: tuple[LargestGap, ...] = ()
    false_positives: tuple[FalsePositives, ...] = ()
    size_mb: float | None = Field(default=None, gt=0)
    latency: Latency | None = None
    confidence: float | None = Field(default=None, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _can_be_shown(self) -> Constraints:
        if self.latency is not None:
            share = self.latency.percentile / 100
            level = self.confidence or LATENCY_CONFIDENCE
            least = math.ceil(math.log(1 - level) / math.log(share))
            if self.latency.texts < least:
                raise ValueError(
                    f"latency.texts: {least} texts are needed at least to show a percentile of "
                    f"{self.latency.percentile:g} with confidence {level:g}"
                )
        return self


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
