"""The embeddings that a training reads to choose its rows by coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fm_platform.errors import MissingArtifactError
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.common import Reporter
from fm_platform.stages.embeddings import Embeddings
from fm_platform.workspace import Workspace


class RowVectors:
    """Embeddings of cleaned rows: of their text in `raw`, kept by day.

    Attributes:
        versions: What is read, for the recipe: the embeddings of each day that has rows.
    """

    def __init__(
        self,
        ws: Workspace,
        project: LoadedProject,
        run: RunContext,
        log: Reporter,
        days: Sequence[ArtifactVersion],
    ) -> None:
        self._embeddings = Embeddings(ws, project, run, log)
        name = project.spec.name
        raws = [ws.ledger.latest(name, "raw", "raw", day.partition) for day in days if day.rows]
        self._raws = [raw for raw in raws if raw is not None]
        self.versions = tuple(self._embeddings.version(raw) for raw in self._raws)

    def __call__(self, row_ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return embeddings float32[n, d] in the order of `row_ids`.

        Raises:
            MissingArtifactError: If a row is not in `raw` as it is in use.
        """
        wanted = set(row_ids)
        found: dict[str, npt.NDArray[np.float32]] = {}
        for raw in self._raws:
            found |= self._embeddings.of_rows(raw, wanted)
        missing = sorted(wanted - found.keys())
        if missing:
            raise MissingArtifactError(
                f"{len(missing)} cleaned rows are no rows of raw any more, e.g. {missing[0]}",
                next_step="clean their days again",
            )
        return np.stack([found[row] for row in row_ids])


def row_vectors(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    days: Sequence[ArtifactVersion],
) -> RowVectors | None:
    """Return what gives embeddings of the rows of cleaned days; None where none are asked."""
    return RowVectors(ws, project, run, log, days) if project.spec.training.covers else None


def versions_of(vectors: RowVectors | None) -> tuple[ArtifactVersion, ...]:
    """Return the embeddings that are read, for the recipe."""
    return () if vectors is None else vectors.versions
