"""A hand-made set of a few rows that goes through the whole chain on every change of a project."""

from __future__ import annotations

from pydantic import Field, field_validator

from fm_platform.spec.part import Part

MOST_ROWS = 50
"""More are a data set, not a test that somebody wrote by hand and understands row by row."""


class Unit(Part):
    """Rows written by hand, and what must come of them.

    They are labeled, cleaned, trained on and merged as the project declares it, whenever its
    functions, classes or settings change, and before anything is trained on real rows.

    Attributes:
        file: CSV in the project's folder: columns `text`, `label` and, where wanted, `source` and
            others of the contract. Rows without a source take turns among the declared ones.
        at_least: Share of rows to which the label model gives the label in the file.
        learned: Share of the rows that cleaning left which the merged model answers as it was
            taught: so few rows must be learned by heart.
        epochs: Of each training, in place of the declared number.
    """

    file: str = "unit.csv"
    at_least: float = Field(default=0.8, gt=0, le=1)
    learned: float = Field(default=0.9, gt=0, le=1)
    epochs: int = Field(default=10, ge=1, le=200)

    @field_validator("file")
    @classmethod
    def _a_table_in_the_folder(cls, value: str) -> str:
        if not value.endswith(".csv") or value.startswith("/") or ".." in value.split("/"):
            raise ValueError("a .csv file in the project's folder is expected")
        return value
