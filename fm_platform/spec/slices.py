"""Declared slices: kinds of rows that people want to be told apart from the average."""

from __future__ import annotations

from typing import Literal

from fm_platform.spec.part import Name, Part


class Slice(Part):
    """The rows on which `column` compares to a value.

    `column` is a contract column or one of `char_count`, `word_count`, `source`. A row without a
    value is in no slice of that column. Slices may overlap.
    """

    name: Name
    column: Name
    operator: Literal["==", "!=", "<", "<=", ">", ">=", "in"]
    value: float | str | bool | tuple[str, ...]
