"""What all parts of a project file share: their base and the kind of name they accept."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that is safe in a path, a column and an asset key."""


class Part(BaseModel):
    """Base of all parts: frozen, extras forbidden."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=False, allow_inf_nan=False
    )


def compiled(pattern: str | None, *, re2: bool = False) -> str | None:
    """Return a pattern that compiles; with `re2` in Arrow's dialect, which knows no look-around."""
    if pattern is None:
        return None
    try:
        re.compile(pattern)
        if re2:
            import pyarrow.compute as pc

            pc.match_substring_regex("", pattern)
    except (re.error, ValueError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern
