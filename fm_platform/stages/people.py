"""What people answered, as votes of one day: the column follows the answers on its rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from fm_platform.hashing import fingerprint
from fm_platform.lineage import ArtifactVersion, Input
from fm_platform.lineage.recipes import people_input, people_key
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.annotations import KIND, readable
from fm_platform.workspace import Workspace

Said = Mapping[str, tuple[str, ...]]
"""Text key -> the classes of which one is right."""


class People:
    """The answers of people on the rows of one day; read at most once, and only if needed.

    Args:
        ws: Where the answers are.
        spec: The project.
        raw: The rows of the day.
        rows: Reads them: columns `text_key` and `split`.
    """

    def __init__(
        self, ws: Workspace, spec: ProjectSpec, raw: ArtifactVersion, rows: Callable[[], pa.Table]
    ) -> None:
        self.ws, self.spec, self.raw, self.rows = ws, spec, raw, rows
        self._said: dict[str, dict[str, tuple[str, ...]]] | None = None

    def said(self, annotator: str) -> Said:
        """Return what one person answered on the rows of the day that are no test rows."""
        if self._said is None:
            rows = self.rows()
            keys = zip(rows["text_key"].to_pylist(), rows["split"].to_pylist(), strict=True)
            asked = {key for key, split in keys if split != "test"}
            self._said = {}
            for answer in readable(self.ws, self.spec):
                if answer["text_key"] in asked:
                    of_person = self._said.setdefault(answer["annotator"], {})
                    of_person[answer["text_key"]] = tuple(answer["classes"])
        return self._said.get(annotator, {})

    def input(self, annotator: str) -> Input:
        """Return the answers of one person as an input; the ledger remembers its hash."""
        kept = self.ws.ledger.all_latest(self.spec.name, KIND)
        value = self.ws.ledger.derive(
            people_key(self.spec, annotator, kept, self.raw),
            lambda: fingerprint(dict(self.said(annotator))),
        )
        return people_input(annotator, str(self.raw.partition), value)
