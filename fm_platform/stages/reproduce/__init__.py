"""Versions built again elsewhere, to see that every bit comes out the same."""

from fm_platform.stages.reproduce.bring_back import bring_back
from fm_platform.stages.reproduce.replay import (
    Compared,
    Plan,
    Reproduction,
    make_plan,
    reproduce,
)

__all__ = ["Compared", "Plan", "Reproduction", "bring_back", "make_plan", "reproduce"]
