"""Rows as the current model sees them: the mean of its last hidden states over a text's tokens.

Before there is a model, the base model stands in: its embeddings are kept for each day.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.refs import version_name
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.stages.embeddings import Embeddings
from fm_platform.tracking.records import CHAMPION
from fm_platform.training.base_model import BaseModel
from fm_platform.workspace import Workspace

Matrix = npt.NDArray[np.float32]


class Seen:
    """Vectors of rows of `raw`, in the eyes of the champion, else of the newest merged model.

    Attributes:
        model: That model; None where the base model stands in for one.
    """

    def __init__(
        self, ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
    ) -> None:
        name = project.spec.name
        self._ws, self._project, self._log = ws, project, log
        self._of_base = Embeddings(ws, project, run, log)
        self.model: ArtifactVersion | None = ws.ledger.alias(name, CHAMPION) or ws.ledger.latest(
            name, "merged_model", "merged_model"
        )

    @property
    def told(self) -> str:
        """Whose eyes, as words."""
        if self.model is None:
            return "on embeddings of the base model"
        return f"on the hidden states of {version_name(self.model)}"

    @cached_property
    def _encoder(self) -> BaseModel | None:
        if self.model is None:
            return None
        folder = self._ws.model_path(self.model)
        return BaseModel(version_name(self.model), folder, self.model.content_hash)

    def of_rows(self, raw: ArtifactVersion, wanted: set[str]) -> dict[str, Matrix]:
        """Return row id -> vector [width] for some rows of a day; unknown ones are left out.

        Raises:
            BaseModelError: If the model cannot be loaded.
        """
        from fm_platform.training.embed import embed

        if self._encoder is None:
            return self._of_base.of_rows(raw, wanted)
        rows = tables.read(self._ws, raw, "raw", ["row_id", "text"])
        rows = rows.filter(
            pc.is_in(rows["row_id"], value_set=pa.array(sorted(wanted), pa.string()))
        )
        day = str(raw.partition)
        vectors = embed(
            self._encoder,
            rows["text"].to_pylist(),
            max_tokens=self._project.spec.training.max_tokens,
            on_progress=lambda done, total: self._log.progress(f"hidden states {day}", done, total),
        )
        return dict(zip(rows["row_id"].to_pylist(), vectors, strict=True))
