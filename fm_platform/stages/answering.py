"""One person at the page: a row is answered once, and an answer can be taken back."""

from __future__ import annotations

from datetime import datetime, timezone

import pyarrow as pa

from fm_platform.errors import AnsweredError, FMError
from fm_platform.labeling.annotations import Record
from fm_platform.lineage import RunContext
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.annotations import (
    KIND,
    Rows,
    complete,
    edit_part,
    newest,
    outdated,
    parts_of,
    putting,
    require_annotator,
)
from fm_platform.workspace import Workspace


class Person:
    """The answers of one person. Each part is read once, so asking after every answer is cheap."""

    def __init__(self, ws: Workspace, annotator: str) -> None:
        self.ws, self.annotator = ws, require_annotator(annotator)
        self._parts: dict[int, pa.Table] = {}

    def answers(self, spec: ProjectSpec) -> list[Record]:
        """Return what the person said and is not to be asked again, oldest first."""
        versions = parts_of(self.ws, spec, self.annotator)
        self._parts = {
            v.id: self._parts[v.id] if v.id in self._parts else tables.read(self.ws, v, KIND)
            for v in versions
        }
        rows = newest([self._parts[v.id] for v in versions]).to_pylist()
        return [row for row in rows if not outdated(spec, row)]

    def answer(self, spec: ProjectSpec, record: Record, run: RunContext) -> bool:
        """Keep an answer; whoever says the same again is told the same.

        Args:
            spec: The project.
            record: See `annotations.save`; text or text key, and label.
            run: Who asks.

        Returns:
            Whether it is new.

        Raises:
            AnsweredError: If the person answered this row before, and otherwise.
            FMError: If the answer cannot be kept, see `annotations.save`.
        """
        whole = complete(spec, {**record, "annotator": self.annotator}, 1)
        put, key = putting([whole]), whole["text_key"]

        def once(rows: Rows) -> int:
            # the other days, then this one as it is now: nobody writes it in between
            earlier = [row for row in self.answers(spec) if row["text_key"] == key]
            earlier += [r for r in rows.values() if r["text_key"] == key and not outdated(spec, r)]
            if not earlier:
                return put(rows)
            if any(row["label"] != whole["label"] for row in earlier):
                raise AnsweredError(
                    "you answered this row before: no row is asked twice",
                    found=earlier[-1]["label"] or "cannot tell",
                    next_step="undo that answer to change it",
                )
            return 0

        day = whole["answered_at"][:10]
        return edit_part(self.ws, spec, self.annotator, day, once, run) > 0

    def take_back(self, spec: ProjectSpec, text_key: str, run: RunContext) -> Record:
        """Take an answer back, and return it. The versions of before keep it.

        Raises:
            FMError: If there is none.
        """
        found = self._on(spec, text_key)
        if found is None:
            raise FMError(
                "there is no answer to take back", next_step="it was taken back before, or outdated"
            )

        def remove(rows: Rows) -> int:
            gone = [key for key, row in rows.items() if row["text_key"] == text_key
                    and not outdated(spec, row)]  # fmt: skip
            for key in gone:
                del rows[key]
            return len(gone)

        # under several versions there may be more than one that counts: none of them may stay
        for version in parts_of(self.ws, spec, self.annotator):
            texts = self._parts[version.id]["text_key"] if version.id in self._parts else None
            if texts is None or text_key in texts.to_pylist():
                edit_part(self.ws, spec, self.annotator, str(version.partition), remove, run)
        return found

    def today(self, answers: list[Record]) -> int:
        """Return how many of some answers were given today (UTC)."""
        day = datetime.now(timezone.utc).date().isoformat()
        return sum(row["answered_at"][:10] == day for row in answers)

    def _on(self, spec: ProjectSpec, text_key: str) -> Record | None:
        return next((r for r in self.answers(spec) if r["text_key"] == text_key), None)
