"""Profiles of days, findings against what the champion was trained on, alerts with their cause.

`measure_day` makes the `Profile` of a day; `reference_of` merges those a model was trained on;
`detect` gives `Finding`s; `alerts_of` merges those of one cause into an `Alert` with its impact,
its severity and its repairs.
"""

from fm_platform.monitoring.alerts import Judging, alerts_of
from fm_platform.monitoring.answered import with_answers
from fm_platform.monitoring.detect import Measured, Settings, detect, measured, past_of
from fm_platform.monitoring.measure import Watch, join, measure_day, with_embeddings
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
from fm_platform.monitoring.repairs import Costs
from fm_platform.monitoring.segments import Evidence

__all__ = [
    "ALL",
    "Alert",
    "Band",
    "Cause",
    "Costs",
    "Estimate",
    "Evidence",
    "Finding",
    "Impact",
    "Judging",
    "Measured",
    "Move",
    "Profile",
    "Reference",
    "Repair",
    "Settings",
    "Severity",
    "Watch",
    "alerts_of",
    "detect",
    "join",
    "measure_day",
    "measured",
    "merge_profiles",
    "past_of",
    "reference_of",
    "with_answers",
    "with_embeddings",
]
