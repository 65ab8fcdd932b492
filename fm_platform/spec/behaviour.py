"""Behaviour tests: what a model must do on texts made for the purpose.

Source: Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models with CheckList (2020):
minimum functionality, invariance and directional expectation.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fm_platform.spec.part import Name, Part

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class Texts(Part):
    """Where the texts of a test come from: templates filled with words, or rows of the test split.

    Attributes:
        templates: Texts with places such as `{thing}`; every filling is a case.
        fill: Place -> what may stand there.
        rows: Number of test rows instead of templates; their labels are not looked at.
        at_most: Cases; of more, a seeded sample.
    """

    templates: tuple[str, ...] = ()
    fill: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    rows: int = Field(default=0, ge=0, le=5000)
    at_most: int = Field(default=500, ge=1, le=5000)

    @model_validator(mode="after")
    def _whole(self) -> Texts:
        if bool(self.templates) == bool(self.rows):
            raise ValueError("texts are made from `templates` or taken from `rows`: declare one")
        places = {place for text in self.templates for place in _PLACE.findall(text)}
        if missing := sorted(places - {name for name, words in self.fill.items() if words}):
            raise ValueError(f"nothing fills {', '.join('{' + name + '}' for name in missing)}")
        if unused := sorted(set(self.fill) - places):
            raise ValueError(f"no template has a place for {', '.join(unused)}")
        return self


class Change(Part):
    """What is done to a text. Each entry of `append`, `prepend` and `replace` is a case.

    Attributes:
        append / prepend: Put behind or before the text.
        replace: Whole word -> others; a text without any of the words is no case.
        case: All in lower or upper letters.
        typos: Neighbouring letters exchanged, at seeded places.
    """

    append: tuple[str, ...] = ()
    prepend: tuple[str, ...] = ()
    replace: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    case: Literal["lower", "upper"] | None = None
    typos: int = Field(default=0, ge=0, le=10)

    @model_validator(mode="after")
    def _something(self) -> Change:
        if not (self.append or self.prepend or self.replace or self.case or self.typos):
            raise ValueError("a change alters something: append, prepend, replace, case or typos")
        if any(not others for others in self.replace.values()):
            raise ValueError("each word of `replace` has at least one other")
        return self


class _Test(Part):
    name: Name
    why: str = Field(default="", description="what a failure would mean, for people")
    texts: Texts
    at_least: float = Field(default=1.0, gt=0, le=1, description="share of cases that must pass")
    required: bool = Field(default=True, description="a failure keeps a model from promotion")


class Functionality(_Test):
    """Each text gets one of these labels."""

    kind: Literal["functionality"]
    labels: tuple[Name, ...] = Field(min_length=1)

    @field_validator("labels", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class Invariance(_Test):
    """The change leaves the answer as it is."""

    kind: Literal["invariance"]
    change: Change


class Direction(_Test):
    """The change moves the probability of `label` up or down, or at least not the other way."""

    kind: Literal["direction"]
    change: Change
    label: Name
    moves: Literal["up", "down"]
    slack: float = Field(default=0.1, ge=0, lt=1, description="move the other way that is allowed")


Behaviour = Annotated[Functionality | Invariance | Direction, Field(discriminator="kind")]
