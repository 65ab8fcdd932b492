"""What stands before a web server on this machine: a guard, and one daemon only."""

from fm_platform.web.guard import Guard
from fm_platform.web.single import SingleInstance

__all__ = ["Guard", "SingleInstance"]
