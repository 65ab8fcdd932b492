"""How people label: guideline and page in versions, and how labels of development are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from fm_platform.spec.part import Name, Part


class VersionChange(Part):
    """What one version changed.

    Attributes:
        version: The version it leads to.
        semantic: Whether answers of before may be others now; a typo is no such change.
        classes: Answers that may be others now; none named: all.
        reason: Why, for people.
    """

    version: str = Field(min_length=1, max_length=40)
    semantic: bool = False
    classes: tuple[Name, ...] = ()
    reason: str = ""


class Versioned(Part):
    """A guideline, or the page on which people label, with its history, oldest change first."""

    version: str = Field(default="1", min_length=1, max_length=40)
    changes: tuple[VersionChange, ...] = ()

    @model_validator(mode="after")
    def _ends_here(self) -> Versioned:
        listed = [change.version for change in self.changes]
        if listed and listed[-1] != self.version:
            raise ValueError(f"the last change leads to {listed[-1]!r}, not to {self.version!r}")
        if len(set(listed)) < len(listed):
            raise ValueError("each version is listed once")
        return self

    def outdates(self, version: str, label: str | None) -> bool:
        """Whether an answer that was given under a version must be asked for again.

        Answers of a version that is not listed were given before all changes.
        """
        listed = [change.version for change in self.changes]
        later = self.changes[listed.index(version) + 1 :] if version in listed else self.changes
        if version == self.version:
            return False
        return any(
            change.semantic and (not change.classes or label is None or label in change.classes)
            for change in later
        )


class Guideline(Versioned):
    """What people are told; `text` is shown to them."""

    text: str = Field(default="", max_length=20_000)


class Annotation(Part):
    """Labels of people.

    Attributes:
        guideline: What they are told.
        interface: The page they label on; other front ends have versions of their own.
        development: Label of development -> class it means in production. Labels that were made
            in development are read through this mapping alone; what it does not name is not read.
        use: What answers are for. `gold`: on dev rows, they are gold rows of the label model,
            within `gold.dev_rows_per_source`. `none`: they only steer what is asked next.
        minimum_annotators: How many must say a class, and more than half of those who say one,
            before it counts.
    """

    guideline: Guideline = Guideline()
    interface: Versioned = Versioned()
    development: dict[str, Name] = Field(default_factory=dict)
    use: Literal["none", "gold"] = "none"
    minimum_annotators: int = Field(default=1, ge=1)

    @field_validator("development")
    @classmethod
    def _no_empty_label(cls, value: dict[str, str]) -> dict[str, str]:
        if "" in value:
            raise ValueError("a label cannot be empty")
        return value


__all__ = ["Annotation", "Guideline", "VersionChange", "Versioned"]
