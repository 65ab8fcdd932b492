"""Which rows a person labels next, from the weak labels in use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import FMError, MissingArtifactError
from fm_platform.labeling.annotations import Record
from fm_platform.labeling.partial import ABSTAIN, ClassSets
from fm_platform.labeling.queue import belief, choose, density_of, disagreement, features
from fm_platform.labeling.queue import uncertainty as entropy
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.annotations import readable, seen_by
from fm_platform.stages.common import Reporter
from fm_platform.stages.embeddings import Embeddings
from fm_platform.stages.gold_queue import gold_wanted
from fm_platform.stages.window import last_built_day, window
from fm_platform.workspace import Workspace

Floats = npt.NDArray[np.float64]
_NAMES = ("row_id", "day", "source", "split", "text", "text_key", "votes", "probabilities")


@dataclass(frozen=True)
class Question:
    """A row to label.

    Attributes:
        text_key / row_id / source / day / text: The row.
        guess: Its most probable class now.
        confidence: Of the guess.
        gain: Expected of the answer; of use for the order alone.
        uncertainty / density / disagreement: What the gain is made of, each in [0, 1].
        reason: Why it is asked where that is not its gain.
    """

    text_key: str
    row_id: str
    source: str
    day: str
    text: str
    guess: str = ""
    confidence: float = 0.0
    gain: float = 0.0
    uncertainty: float = 0.0
    density: float = 0.0
    disagreement: float = 0.0
    reason: str = ""

    def to_record(self, spec: ProjectSpec) -> Record:
        """Return the row as a question for a file (see `labeling.annotations.render`).

        It says under which guideline and classes it is asked: by the time that the answer comes
        back others may be declared.
        """
        return {
            "text_key": self.text_key, "row_id": self.row_id, "source": self.source,
            "text": self.text, "label": None, "annotator": None,
            "guideline_version": spec.annotation.guideline.version,
            "taxonomy_version": spec.taxonomy.version,
        }  # fmt: skip

    @property
    def why(self) -> str:
        """Why it was chosen, in words that do not tell which class is expected."""
        if self.reason:
            return self.reason
        found = ["nothing tells its class"] if self.uncertainty > 0.95 else []
        if 0.5 < self.uncertainty <= 0.95:
            found = ["its class is uncertain"]
        if self.disagreement > 0.1:
            found.append("answers on rows like it and the labeling functions disagree")
        if self.density > 0.5:
            found.append("many rows are like it")
        return "; ".join(found) or "what is more telling has been asked"


class Pool:
    """The training rows of the window, each text once, with all that a choice among them needs."""

    def __init__(
        self, ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
    ) -> None:
        """Read the rows.

        Raises:
            MissingArtifactError: If no day has weak labels.
        """
        self.ws, self.project, self.spec = ws, project, project.spec
        self.days = days_of(ws, project)
        self.key = _key(self.days)
        self.classes = list(self.spec.taxonomy.classes)
        self.rows, self.vectors = _rows(ws, project, self.days, run, log)
        self.keys: list[str] = self.rows["text_key"].to_pylist()
        self.place = {key: i for i, key in enumerate(self.keys)}

    @property
    def outdated(self) -> bool:
        """Whether other rows or labels are in use by now."""
        return _key(days_of(self.ws, self.project)) != self.key

    @cached_property
    def weak(self) -> Floats:
        """What the label model says, float[n, k]."""
        return np.asarray(tables.matrix(self.rows["probabilities"]), np.float64)

    @cached_property
    def _features(self) -> npt.NDArray[np.floating]:
        votes = np.asarray(tables.matrix(self.rows["votes"]), np.int8)
        return features(self.vectors, votes, len(self.classes))

    @cached_property
    def _dense(self) -> npt.NDArray[np.floating]:
        return density_of(self.vectors, self.spec.training.seed)

    def questions(
        self, size: int, closed: Collection[str], classes: Collection[str] = ()
    ) -> list[Question]:
        """Return what to ask next: rows wanted as gold, then those of the largest gain.

        Args:
            size: How many at most.
            closed: Text keys that are not asked.
            classes: Only rows of which these are probable: the gain of each counts by it.
        """
        if classes:
            return self._of_gain(size, closed, classes)
        wanted = [q for key, q in self.gold().items() if key not in closed][:size]
        asked = {question.text_key for question in wanted}  # a row of train may have that text, too
        return wanted + self._of_gain(size - len(wanted), asked.union(closed))

    def gold(self) -> dict[str, Question]:
        """Return by text key the dev rows that people's answers would make gold rows."""
        return {
            row.text_key: Question(
                row.text_key, row.row_id, row.source, row.day, row.text,
                reason=f"gold row {row.nth} of {row.budget} of {row.source}, chosen by lot",
            )
            for row in gold_wanted(self.ws, self.spec)
        }  # fmt: skip

    def _of_gain(
        self, size: int, closed: Collection[str], classes: Collection[str] = ()
    ) -> list[Question]:
        if not self.keys or size < 1:
            return []
        answered, labels = self._answers()
        believed = belief(self.weak, self._features, answered, labels)
        apart = disagreement(believed, self.weak)
        skipped = np.array(sorted(self.place[key] for key in closed if key in self.place), np.int64)
        done = np.union1d(answered, skipped).astype(np.int64)
        chosen, gains = choose(
            believed, apart, self.vectors, size, self.spec.training.seed,
            closed=skipped, answered=done, dense=self._dense,
            worth=self._of_classes(believed, classes),
        )  # fmt: skip
        unsure = entropy(believed[chosen])
        best = believed[chosen].argmax(axis=1)
        return [
            Question(
                **{name: row[name] for name in ("text_key", "row_id", "source", "day", "text")},
                guess=self.classes[best[i]],
                confidence=round(float(believed[chosen[i], best[i]]), 4),
                gain=round(float(gains[i]), 6),
                uncertainty=round(float(unsure[i]), 4),
                density=round(float(self._dense[chosen[i]]), 4),
                disagreement=round(float(apart[chosen[i]]), 4),
            )
            for i, row in enumerate(self.rows.take(pa.array(chosen)).to_pylist())
        ]

    def _of_classes(
        self, believed: npt.NDArray[np.floating], classes: Collection[str]
    ) -> npt.NDArray[np.floating] | None:
        """Return how probable it is that a row is of one of some classes; None: of any."""
        if not classes:
            return None
        found: npt.NDArray[np.floating] = believed[
            :, [self.classes.index(name) for name in classes]
        ].sum(axis=1)
        return found

    def votes(self, text_key: str) -> dict[str, list[str]]:
        """Return labeling function -> the classes it votes for on a row; none: it abstains."""
        row = self.rows.slice(self.place[text_key], 1).to_pylist()[0]
        version = next(weak for raw, weak in self.days if weak.partition == row["day"])
        sets = ClassSets.of(version.metrics.get("class_sets", []))
        told = zip(version.metrics["functions"], row["votes"], strict=True)
        return {
            name: [self.classes[m] for m in (sets.members(vote) if vote != ABSTAIN else ())]
            for name, vote in told
        }

    def _answers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return positions and classes of rows on which all who answered say the same class."""
        told: dict[int, set[tuple[str, ...]]] = {}
        for answer in readable(self.ws, self.spec):
            if answer["text_key"] in self.place:
                told.setdefault(self.place[answer["text_key"]], set()).add(answer["classes"])
        sure = {i: next(iter(all_)) for i, all_ in told.items() if len(all_) == 1}
        one = {i: self.classes.index(names[0]) for i, names in sure.items() if len(names) == 1}
        listed = sorted(one)
        return np.array(listed, np.int64), np.array([one[i] for i in listed], np.int64)


def review_queue(
    ws: Workspace,
    project: LoadedProject,
    annotator: str,
    size: int,
    run: RunContext,
    log: Reporter,
    wanted: Collection[str] = (),
) -> list[Question]:
    """Return the rows that a person should label next, best first.

    Rows of the training split in the training window; equal texts are one row. Before them come
    the dev rows that are wanted as gold, where that is declared. Nobody is asked twice for the
    same row, unless guideline or page changed in meaning since.

    Args:
        ws: Where the rows are.
        project: Whose.
        annotator: Who is asked.
        size: How many at most.
        run: For the embeddings that are built on the way.
        log: Told of these.
        wanted: Classes of which rows are looked for: then a row counts by their probability.

    Raises:
        MissingArtifactError: If no day has weak labels.
        FMError: If one of `wanted` is no class.
    """
    for name in wanted:
        if name not in project.spec.taxonomy.classes:
            classes = ", ".join(project.spec.taxonomy.classes)
            raise FMError("there is no such class", found=name[:80], expected=classes)
    pool = Pool(ws, project, run, log)
    return pool.questions(size, seen_by(ws, project.spec, annotator), wanted)


Days = list[tuple[ArtifactVersion, ArtifactVersion]]
"""`raw` and `weak_labels` of some days."""


def days_of(ws: Workspace, project: LoadedProject) -> Days:
    """Return the days of the training window that have weak labels, oldest first.

    Raises:
        MissingArtifactError: If no day has.
    """
    spec = project.spec
    last = last_built_day(ws, spec, "weak_labels", "weak_labels")
    if last is None:
        raise MissingArtifactError(
            f"no day of {spec.name} has weak labels yet", next_step=f"fm run {spec.name}"
        )
    width = spec.training.window_days
    raws = {v.partition: v for v in window(ws, spec, "raw", "raw", last, width)}
    found = window(ws, spec, "weak_labels", "weak_labels", last, width)
    return [(raws[v.partition], v) for v in found if v.partition in raws]


def _key(days: Days) -> tuple[int, ...]:
    return tuple(version.id for pair in days for version in pair)


def _rows(
    ws: Workspace, project: LoadedProject, days: Days, run: RunContext, log: Reporter
) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """Return the training rows of the window and their embeddings, each text once."""
    embeddings = Embeddings(ws, project, run, log)
    found, vectors = [], []
    seen: set[str] = set()
    for raw, version in days:
        rows = tables.read(ws, version, "weak_labels", _NAMES)
        rows = rows.filter(pc.equal(rows["split"], "train"))
        first = []
        for i, key in enumerate(rows["text_key"].to_pylist()):
            if key not in seen:
                seen.add(key)
                first.append(i)
        rows = rows.take(pa.array(first, pa.int64()))
        if rows.num_rows:
            found.append(rows)
            vectors.append(_vectors(embeddings, raw, rows["row_id"].to_pylist()))
    if not found:
        return pa.table({name: [] for name in _NAMES}), np.zeros((0, 0), np.float32)
    return pa.concat_tables(found), np.concatenate(vectors)


def _vectors(
    embeddings: Embeddings, raw: ArtifactVersion, rows: list[str]
) -> npt.NDArray[np.float32]:
    """Return embeddings of some rows of a day, float32[n, d]: those in use, or built now.

    Those in use may have been made by older code: what is chosen by them enters no artifact.
    """
    ws, project = embeddings.ws, embeddings.project.spec.name
    have = ws.ledger.latest(project, "embeddings", "embeddings", raw.partition)
    needed = {raw.as_input("raw").content_hash, embeddings.base.content_hash}
    if have is None or not needed <= {item.content_hash for item in have.inputs}:
        return embeddings.matrix(raw, rows)
    table = ws.columns.get(str(have.location["column"]))
    place = pc.index_in(pa.array(rows, pa.string()), value_set=table["row_id"].combine_chunks())
    found: npt.NDArray[np.float32] = tables.matrix(table["embedding"])[place.to_numpy()]
    return found
