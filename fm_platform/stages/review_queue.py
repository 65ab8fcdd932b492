"""Which rows a person labels next, from the weak labels in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import MissingArtifactError
from fm_platform.labeling.annotations import Record
from fm_platform.labeling.queue import belief, choose, disagreement, features
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.annotations import readable, seen_by
from fm_platform.stages.common import Reporter
from fm_platform.stages.embeddings import Embeddings
from fm_platform.stages.window import last_built_day, window
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """A row to label.

    Attributes:
        text_key / row_id / source / day / text: The row.
        guess: Its most probable class now.
        confidence: Of the guess.
        gain: Expected of the answer; of use for the order alone.
    """

    text_key: str
    row_id: str
    source: str
    day: str
    text: str
    guess: str
    confidence: float
    gain: float

    def to_record(self) -> Record:
        """Return the row as a question for a file (see `labeling.annotations.render`)."""
        return {
            "text_key": self.text_key, "row_id": self.row_id, "source": self.source,
            "text": self.text, "label": None, "annotator": None,
        }  # fmt: skip


def review_queue(
    ws: Workspace,
    project: LoadedProject,
    annotator: str,
    size: int,
    run: RunContext,
    log: Reporter,
) -> list[Question]:
    """Return the rows that a person should label next, best first.

    Rows of the training split in the training window; equal texts are one row. Nobody is asked
    twice for the same row, unless guideline or page changed in meaning since.

    Raises:
        MissingArtifactError: If no day has weak labels.
    """
    spec = project.spec
    last = last_built_day(ws, spec, "weak_labels", "weak_labels")
    if last is None:
        raise MissingArtifactError(
            f"no day of {spec.name} has weak labels yet", next_step=f"fm run {spec.name}"
        )
    rows, vectors = _rows(ws, project, last, run, log)
    if not rows.num_rows:
        return []
    keys = rows["text_key"].to_pylist()
    classes = list(spec.taxonomy.classes)
    weak = tables.matrix(rows["probabilities"])
    votes = np.asarray(tables.matrix(rows["votes"]), np.int8)
    known = features(vectors, votes, len(classes))
    answered, labels = _answers(ws, project, keys, classes)
    now = belief(weak, known, answered, labels)
    seen = seen_by(ws, spec, annotator)
    skipped = np.array([i for i, key in enumerate(keys) if key in seen], np.int64)
    done = np.union1d(answered, skipped).astype(np.int64)
    chosen, gains = choose(
        now, disagreement(now, weak), vectors, size, spec.training.seed,
        closed=skipped, answered=done,
    )  # fmt: skip
    picked = rows.take(pa.array(chosen)).to_pylist()
    best = now[chosen].argmax(axis=1)
    return [
        Question(
            row["text_key"], row["row_id"], row["source"], row["day"], row["text"],
            classes[best[i]], round(float(now[chosen[i], best[i]]), 4), round(float(gains[i]), 6),
        )
        for i, row in enumerate(picked)
    ]  # fmt: skip


def _rows(
    ws: Workspace, project: LoadedProject, last: str, run: RunContext, log: Reporter
) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """Return the training rows of the window and their embeddings, each text once."""
    spec = project.spec
    names = ["row_id", "day", "source", "split", "text", "text_key", "votes", "probabilities"]
    embeddings = Embeddings(ws, project, run, log)
    found, vectors = [], []
    seen: set[str] = set()
    width = spec.training.window_days
    raws = {v.partition: v for v in window(ws, spec, "raw", "raw", last, width)}
    for version in window(ws, spec, "weak_labels", "weak_labels", last, width):
        raw = raws.get(version.partition)
        if raw is None:
            continue
        rows = tables.read(ws, version, "weak_labels", names)
        rows = rows.filter(pc.equal(rows["split"], "train"))
        first = []
        for i, key in enumerate(rows["text_key"].to_pylist()):
            if key not in seen:
                seen.add(key)
                first.append(i)
        rows = rows.take(pa.array(first, pa.int64()))
        if rows.num_rows:
            found.append(rows)
            vectors.append(embeddings.matrix(raw, rows["row_id"].to_pylist()))
    if not found:
        return pa.table({name: [] for name in names}), np.zeros((0, 0), np.float32)
    return pa.concat_tables(found), np.concatenate(vectors)


def _answers(
    ws: Workspace, project: LoadedProject, keys: list[str], classes: list[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return positions and classes of rows on which all who answered say the same one class."""
    place = {key: i for i, key in enumerate(keys)}
    said: dict[int, set[tuple[str, ...]]] = {}
    for answer in readable(ws, project.spec):
        if answer["text_key"] in place:
            said.setdefault(place[answer["text_key"]], set()).add(answer["classes"])
    sure = {i: next(iter(all_)) for i, all_ in said.items() if len(all_) == 1}
    one = {i: classes.index(told[0]) for i, told in sure.items() if len(told) == 1}
    listed = sorted(one)
    return np.array(listed, np.int64), np.array([one[i] for i in listed], np.int64)
