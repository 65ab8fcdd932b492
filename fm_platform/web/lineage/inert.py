"""Everything that the page shows, made inert: the page itself shows it as text only, too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fm_platform.display import plain

TEXT_CHARS = 2_000
"""How much of one text travels to the page."""


def inert(value: Any) -> Any:
    """Return JSON values whose texts hold no control character and no direction mark.

    Numbers that JSON does not know (NaN, infinity) become their names.
    """
    if isinstance(value, Mapping):
        return {plain(key): inert(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inert(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return text(value.isoformat() if isinstance(value, datetime) else str(value))


def text(value: str, limit: int = TEXT_CHARS) -> str:
    """Return a text with its lines and its spaces (source keeps its shape), otherwise inert."""
    shown = value[:limit]
    lines = [
        " ".join(plain(word, None) for word in line.expandtabs(4).split(" "))
        for line in shown.split("\n")
    ]
    return "\n".join(lines) + ("…" if len(value) > limit else "")
