"""What the champion was trained on, as one profile: what new days are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fm_platform.monitoring.profile import Profile, merge_profiles

REFERENCE_ROWS = 1_024
"""Rows of each source in the sample of a reference."""


@dataclass(frozen=True)
class Reference:
    """The merged profiles of exactly the days a model was trained on.

    Attributes:
        model: Content hash of the model.
        title: How people call it, e.g. `champion merged_model@1a2b3c`.
        profile: All its days together; its sample holds `champion`, the model's probabilities.
        daily: The profile of each of these days, without its sample, oldest first: what the bands
            are learned from.
        missing: Days it was trained on of which there is no profile.
    """

    model: str
    title: str
    profile: Profile
    daily: tuple[Profile, ...] = field(default=(), repr=False)
    missing: tuple[str, ...] = ()

    @property
    def days(self) -> tuple[str, ...]:
        """The days, sorted."""
        return self.profile.days


def reference_of(
    model: str,
    title: str,
    daily: Sequence[Profile],
    missing: Sequence[str] = (),
    sample_rows: int = REFERENCE_ROWS,
) -> Reference:
    """Return the reference of a model that was trained on these days.

    Raises:
        ValueError: If there is no day.
    """
    ordered = tuple(sorted(daily, key=lambda profile: profile.days))
    return Reference(
        model, title, merge_profiles(ordered, sample_rows), ordered, tuple(sorted(missing))
    )
