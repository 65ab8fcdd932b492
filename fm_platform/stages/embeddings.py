"""Frozen embeddings of one day: an artifact of (base model, tokenizer, text), made when needed."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import embeddings_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.workspace import Workspace

Matrix = npt.NDArray[np.float32]


class Embeddings:
    """Mean-pooled embeddings of the rows of `raw`, computed once a day and base model."""

    def __init__(
        self, ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
    ) -> None:
        self.ws, self.project, self.run, self.log = ws, project, run, log
        self._versions: dict[int, ArtifactVersion] = {}
        self._tables: dict[int, pa.Table] = {}

    @cached_property
    def base(self) -> BaseModel:
        """The base model of the project; with candidates the first one, whatever was chosen."""
        declared = self.project.embeds or self.project.spec.base_model
        return resolve_base_model(declared, self.project.directory)

    def version(self, raw: ArtifactVersion) -> ArtifactVersion:
        """Return the embeddings of one day of `raw`, building them where they are missing."""
        if raw.id not in self._versions:
            spec = self.project.spec
            day = str(raw.partition)
            recipe = embeddings_recipe(spec, day, raw, self.base.content_hash)

            def compute(lease: Lease) -> Produced:
                from fm_platform.training.embed import embed

                rows = tables.read(self.ws, raw, "raw", ["row_id", "text"])
                vectors = embed(
                    self.base,
                    rows["text"].to_pylist(),
                    max_tokens=spec.training.max_tokens,
                    on_progress=lambda done, total: self.log.progress(
                        f"embeddings {day}", done, total
                    ),
                )
                table = pa.table({"row_id": rows["row_id"], "embedding": tables.vectors(vectors)})
                content = self.ws.columns.put(table)
                return Produced(content, {"column": content}, table.num_rows, table.nbytes)

            self._versions[raw.id] = tables.build(self.ws, recipe, compute, self.run).version
        return self._versions[raw.id]

    def _table(self, raw: ArtifactVersion) -> pa.Table:
        if raw.id not in self._tables:
            version = self.version(raw)
            self._tables[raw.id] = self.ws.columns.get(str(version.location["column"]))
        return self._tables[raw.id]

    def matrix(self, raw: ArtifactVersion, row_ids: list[str]) -> Matrix:
        """Return embeddings [rows, width] of a day, in the order of `row_ids`."""
        table = self._table(raw)
        if table["row_id"].to_pylist() == row_ids:
            return tables.matrix(table["embedding"])
        position = {row: i for i, row in enumerate(table["row_id"].to_pylist())}
        picked: Matrix = tables.matrix(table["embedding"])[[position[row] for row in row_ids]]
        return picked

    def of_rows(self, raw: ArtifactVersion, wanted: set[str]) -> dict[str, Matrix]:
        """Return row id -> embedding [width] for some rows of a day."""
        table = self._table(raw)
        vectors = tables.matrix(table["embedding"])
        return {
            row: vectors[i] for i, row in enumerate(table["row_id"].to_pylist()) if row in wanted
        }
