"""How many rows of each class a training needs, over all and in declared slices."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fm_platform.spec.part import Name, Part

Rows = Annotated[float, Field(gt=0)]


class Coverage(Part):
    """What the training rows of the window must hold; below it nothing is trained.

    Attributes:
        minimum: Effective rows of each class, see `stages.coverage`.
        classes: Another minimum for some classes.
        slices: Declared slice -> effective rows of each class in it, or those of some classes.
    """

    minimum: Rows
    classes: dict[Name, Rows] = Field(default_factory=dict)
    slices: dict[Name, Rows | dict[Name, Rows]] = Field(default_factory=dict)
