"""What all parts of a project file share: their base and the kind of name they accept."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A name that is safe in a path, a column and an asset key."""


class Part(BaseModel):
    """Base of all parts: frozen, extras forbidden."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=False, allow_inf_nan=False
    )
