"""Experts that have nothing to learn from: no train row of theirs lies in the training window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from fm_platform.hashing import sha256_hex
from fm_platform.lineage.records import Readable
from fm_platform.spec.models import ProjectSpec

SOME, NONE = "some", "none"
"""What is derived of the rows of a source on a day: whether any is there to train on."""
Known = Callable[[Iterable[str]], Mapping[str, str]]
"""Keys -> what is known to be derived of them."""


def train_rows_key(day: Readable, source: str) -> str:
    """Return the key by which the ledger knows whether a day has train rows of a source."""
    return sha256_hex(f"train rows of {day.kind} {source} {day.parts[source]}".encode())


def with_rows(spec: ProjectSpec, days: Sequence[Readable], known: Known) -> ProjectSpec:
    """Return the project without the experts that no day has a train row for.

    The others are merged and evaluated without them. Rows count as train rows until it is derived
    that they are not. Where no expert has any, or no day is built yet, it is the project as
    declared: its training then says so.
    """
    keys = {
        expert.name: [
            train_rows_key(day, source)
            for day in days
            for source in expert.sources
            if source in day.parts
        ]
        for expert in spec.experts
    }
    told = known(key for listed in keys.values() for key in listed)
    kept = tuple(
        expert for expert in spec.experts if any(told.get(k) != NONE for k in keys[expert.name])
    )
    if len(kept) in (0, len(spec.experts)):
        return spec
    weights, names = spec.merge.weights, {expert.name for expert in kept}
    if weights is not None:
        weights = {name: weight for name, weight in weights.items() if name in names}
    merge = spec.merge.model_copy(update={"weights": weights})
    return spec.model_copy(update={"experts": kept, "merge": merge})
