"""Start and experts of the shipped project, trained for a seed: shared by the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.training.prefix import States


@dataclass(frozen=True)
class Family:
    """A shared start and the experts that continue it.

    Attributes:
        start: Adapter folder of the start.
        experts: Expert -> adapter folder.
        everything: Adapter trained on all sources at once, if it was asked for.
    """

    start: Path
    experts: Mapping[str, Path]
    everything: Path | None = None


def of_sources(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return the rows of some sources."""
    return rows.filter(pc.is_in(rows["source"], value_set=pa.array(sorted(names))))


def train_family(
    spec: Any,
    base: Any,
    config: Any,
    train: pa.Table,
    dev: pa.Table,
    root: Path,
    everything: bool = False,
    states: States | None = None,
) -> Family:
    """Train below `root`; what was trained there before stays as it is.

    `states` are what frozen layers give, where they are known already.
    """
    from fm_platform.training.start import fit_start
    from fm_platform.training.train import train_expert
    from fm_platform.training.variants import fit_start_as, train_expert_as

    classes = spec.taxonomy.classes
    root.mkdir(parents=True, exist_ok=True)

    def once(name: str, fit: Any) -> Path:
        done = root / f"{name}.done"
        if not done.is_file():
            trained = fit(root / name).directory
            done.write_text(trained.relative_to(root).as_posix(), "utf-8")
        return root / done.read_text("utf-8")

    def first(into: Path) -> Any:
        if not config.frozen_layers:
            return fit_start(train, dev, base, config, classes, into)
        return fit_start_as(train, dev, base, config, classes, into, states=states)

    start = once("start", first)

    def expert(sources: Sequence[str]) -> Any:
        own, judged = of_sources(train, sources), of_sources(dev, sources)
        if not config.frozen_layers:
            return lambda into: train_expert(own, judged, base, start, config, classes, into)
        return lambda into: train_expert_as(
            own, judged, base, start, config, classes, into, states=states
        )

    experts = {e.name: once(f"expert-{e.name}", expert(e.sources)) for e in spec.experts}
    names = sorted({source for e in spec.experts for source in e.sources})
    one = once("everything", expert(names)) if everything else None
    return Family(start, experts, one)
