"""Scripted histories: a project that lives for sixty days in a few minutes, on a real home.

    history = build_history(folder)                 # all sixty days, into an empty folder
    history = scripted(cache_folder, tmp_path)      # a copy; built once per state of the code

Everything is real (tables, ledger, models, decisions); only the clock is set: what is recorded
on day N bears the date of that day, so `name@2026-01-20` means what it says.
"""

from tests.histories.clock import clock
from tests.histories.script import (
    EDIT,
    MISTAKE,
    ROLLBACK,
    SIXTY_DAYS,
    SPLIT,
    SWAP,
    History,
    Moment,
    Script,
    build_history,
    scripted,
)

__all__ = [
    "EDIT",
    "MISTAKE",
    "ROLLBACK",
    "SIXTY_DAYS",
    "SPLIT",
    "SWAP",
    "History",
    "Moment",
    "Script",
    "build_history",
    "clock",
    "scripted",
]
