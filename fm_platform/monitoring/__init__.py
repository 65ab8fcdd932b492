"""Profiles of days, findings against what the champion was trained on, alerts with their cause.

`measure_day` makes the `Profile` of a day; `reference_of` merges those a model was trained on;
`detect` gives `Finding`s; `alerts_of` merges those of one cause into an `Alert` with its impact,
its severity and its repairs.
"""

from fm_platform.monitoring.profile import Profile, merge_profiles
from fm_platform.monitoring.records import (
    ALL,
    Alert,
    Band,
    Cause,
    Estimate,
    Finding,
    Impact,
    Move,
    Repair,
    Severity,
)
from fm_platform.monitoring.reference import Reference, reference_of

__all__ = [
    "ALL",
    "Alert",
    "Band",
    "Cause",
    "Estimate",
    "Finding",
    "Impact",
    "Move",
    "Profile",
    "Reference",
    "Repair",
    "Severity",
    "merge_profiles",
    "reference_of",
]
