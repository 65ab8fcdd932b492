"""Who is asked what next: rows are handed out to people and their tabs, and answers kept."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fm_platform.errors import FMError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.annotations import Record, joined, said
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.answering import Person
from fm_platform.stages.review_queue import Pool, Question
from fm_platform.web.lineage.inert import inert, text
from fm_platform.workspace import Workspace

BATCH = 40
"""How many rows are chosen at once; answers then move the choice of the next ones."""
_LOW = 10
_HELD_S = 15 * 60
_LAST = 20
MOST_CHARS = 20_000
_log = logging.getLogger(__name__)


@dataclass
class Seat:
    """One person at the desk.

    Attributes:
        person: Her answers.
        waiting: Rows that were chosen and not shown yet, best first.
        shown: Tab -> (the row it shows, since when); another tab does not get it.
        skipped: Rows that are asked after all others.
        busy: Whether more rows are being chosen.
        dry: Whether nothing is left to choose beyond those that wait.
        error: Why none could be chosen.
    """

    person: Person
    waiting: list[Question] = field(default_factory=list)
    shown: dict[str, tuple[Question, float]] = field(default_factory=dict)
    skipped: dict[str, Question] = field(default_factory=dict)
    busy: bool = False
    dry: bool = False
    error: FMError | None = None
    writing: threading.Lock = field(default_factory=threading.Lock)


class _News:
    """What the choice of rows is busy with, for those who wait for it."""

    now = ""

    def info(self, message: str) -> None:
        """Nothing is finished that a page should tell."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Remember how far it is."""
        self.now = f"{task}: {done:,} of {total:,}"


class Desk:
    """The rows of one project, and the people who label them. Many threads may use it."""

    def __init__(self, ws: Workspace, project: LoadedProject) -> None:
        self.ws, self.project = ws, project
        self._seats: dict[str, Seat] = {}
        self._lock = threading.RLock()
        self._choosing = threading.Lock()
        self._pool: Pool | None = None
        self._news = _News()

    def session(self, annotator: str) -> dict[str, Any]:
        """Return what the page needs before the first row."""
        declared, taxonomy = self.project.spec.annotation, self.project.spec.taxonomy
        with self._lock:  # rows may have come, or another tab may have closed
            self._seat(annotator).dry = False
        return {
            "annotator": self._seat(annotator).person.annotator,
            "classes": list(taxonomy.classes),
            "taxonomy_version": taxonomy.version,
            "interface_version": declared.interface.version,
            "stamp": self._stamp,
            "guideline": {
                "version": declared.guideline.version,
                "text": text(declared.guideline.text, MOST_CHARS),
                "changes": [
                    {"version": c.version, "reason": c.reason, "semantic": c.semantic}
                    for c in reversed(declared.guideline.changes)
                ],
            },
            **self._progress(annotator),
        }

    def next(self, annotator: str, tab: str) -> dict[str, Any]:
        """Return the row that a tab shows now: its own again, or the next that no other shows."""
        with self._lock:
            seat = self._seat(annotator)
            if seat.error is not None:
                error, seat.error = seat.error, None
                raise error
            seen = {row["text_key"] for row in seat.person.answers(self.project.spec)}
            question = self._take(seat, tab, seen)
            open_ = sum(q.text_key not in seen for q in seat.waiting)
            if open_ < _LOW and not seat.busy and not seat.dry:
                self._choose_more(seat, seen)
            state = "row" if question else "wait" if seat.busy else "done"
            return {
                "state": state,
                "doing": self._news.now if state == "wait" else "",
                "question": _told(question) if question else None,
                "stamp": self._stamp,
                **self._progress(annotator),
            }

    def answer(self, annotator: str, tab: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keep an answer at once, under the versions that the page showed."""
        seat = self._seat(annotator)
        question = self._question(seat, str(given.get("text_key")))
        record: Record = {
            "text_key": question.text_key, "row_id": question.row_id, "text": question.text,
            "source": question.source, "label": _label(given.get("classes")),
            **{name: str(given[name]) for name in ("guideline_version", "interface_version")
               if given.get(name)},
            "taxonomy_version": given.get("taxonomy_version"),
        }  # fmt: skip
        with seat.writing:
            new = seat.person.answer(self.project.spec, record, RunContext())
        with self._lock:
            self._drop(seat, question.text_key)
        return {"new": new, **self.next(annotator, tab)}

    def skip(self, annotator: str, tab: str, text_key: str) -> dict[str, Any]:
        """Put a row after all others."""
        seat = self._seat(annotator)
        question = self._question(seat, text_key)
        with self._lock:
            self._drop(seat, text_key)
            seat.skipped[text_key] = question
        return self.next(annotator, tab)

    def skipped_again(self, annotator: str, tab: str) -> dict[str, Any]:
        """Ask what was skipped."""
        seat = self._seat(annotator)
        with self._lock:
            seat.waiting += seat.skipped.values()
            seat.skipped = {}
        return self.next(annotator, tab)

    def take_back(self, annotator: str, tab: str, text_key: str) -> dict[str, Any]:
        """Take an answer back and show its row again."""
        seat = self._seat(annotator)
        with seat.writing:
            row = seat.person.take_back(self.project.spec, text_key, RunContext())
        with self._lock:
            pool = self._pool
            place = pool.place.get(text_key) if pool is not None else None
            day = pool.rows["day"][place].as_py() if pool is not None and place is not None else ""
            question = _of_row(row, day, "you took your answer back")
            before = seat.shown.pop(tab, None)
            if before is not None:
                seat.waiting.insert(0, before[0])
            seat.shown[tab] = (question, time.monotonic())
        return {"taken_back": row["label"], **self.next(annotator, tab)}

    def votes(self, text_key: str) -> dict[str, Any]:
        """Return what the labeling functions say of a row, for who asks for it."""
        pool = self._pool
        if pool is None or text_key not in pool.place:
            raise FMError(
                "only what functions vote on training rows of the window is shown: an answer that"
                " is to measure them must not lean on them"
            )
        place = pool.place[text_key]
        believed = dict(zip(pool.classes, pool.weak[place].tolist(), strict=True))
        told = pool.votes(text_key)
        return {
            "votes": [{"function": name, "classes": told[name]} for name in sorted(told)],
            "label_model": [{"class": name, "probability": p} for name, p in believed.items()],
        }

    @property
    def _stamp(self) -> str:
        """What an open page may hold of the project file: it is loaded again where it differs."""
        spec = self.project.spec
        return fingerprint([spec.annotation.model_dump(), spec.taxonomy.model_dump()])[:16]

    # --- within -----------------------------------------------------------------------------

    def _seat(self, annotator: str) -> Seat:
        with self._lock:
            if annotator not in self._seats:
                self._seats[annotator] = Seat(Person(self.ws, annotator))
            return self._seats[annotator]

    def _take(self, seat: Seat, tab: str, seen: set[str]) -> Question | None:
        now = time.monotonic()
        seat.shown = {
            t: (q, since) for t, (q, since) in seat.shown.items()
            if q.text_key not in seen and (t == tab or now - since < _HELD_S)
        }  # fmt: skip
        if tab not in seat.shown:
            taken = {question.text_key for question, _ in seat.shown.values()}
            closed = seen | taken | set(seat.skipped)
            seat.waiting = [q for q in seat.waiting if q.text_key not in seen]
            free = next((q for q in seat.waiting if q.text_key not in closed), None)
            if free is None:
                return None
            seat.waiting.remove(free)
            seat.shown[tab] = (free, now)
        return seat.shown[tab][0]

    def _choose_more(self, seat: Seat, seen: set[str]) -> None:
        closed = seen | set(seat.skipped) | {q.text_key for q, _ in seat.shown.values()}
        seat.busy = True
        threading.Thread(
            target=self._choose, args=(seat, closed), name="label-queue", daemon=True
        ).start()

    def _choose(self, seat: Seat, closed: set[str]) -> None:
        found: list[Question] = []
        error: FMError | None = None
        try:
            with self._choosing:  # one at a time: it takes all cores
                found = self._fresh_pool().questions(BATCH, closed)
        except FMError as failed:
            error = failed
        except Exception:
            _log.exception("no rows could be chosen")
            error = FMError("the server failed to choose rows", next_step="its log tells why")
        with self._lock:
            seat.busy, seat.dry, seat.error = False, len(found) < BATCH, error
            kept = {q.text_key for q, _ in seat.shown.values()} | set(seat.skipped)
            seat.waiting = [q for q in found if q.text_key not in kept] if not error else []

    def _fresh_pool(self) -> Pool:
        if self._pool is None or self._pool.outdated:
            self._pool = Pool(self.ws, self.project, RunContext(), self._news)
        return self._pool

    def _question(self, seat: Seat, text_key: str) -> Question:
        """Return the row that a tab answers; of a server that was started again since, too."""
        with self._lock:
            listed = [q for q, _ in seat.shown.values()] + seat.waiting
            listed += seat.skipped.values()
            found = next((q for q in listed if q.text_key == text_key), None)
        if found is not None:
            return found
        with self._choosing:
            pool = self._fresh_pool()
        if text_key in pool.place:
            row = pool.rows.slice(pool.place[text_key], 1).to_pylist()[0]
            return _of_row(row, row["day"], "it was shown before")
        wanted = pool.gold().get(text_key)
        if wanted is not None:
            return wanted
        raise FMError(
            "this row was not asked here", next_step="load the page again: it asks the next"
        )

    def _drop(self, seat: Seat, text_key: str) -> None:
        seat.shown = {t: pair for t, pair in seat.shown.items() if pair[0].text_key != text_key}
        seat.waiting = [q for q in seat.waiting if q.text_key != text_key]
        seat.skipped.pop(text_key, None)

    def _progress(self, annotator: str) -> dict[str, Any]:
        seat = self._seat(annotator)
        mine = seat.person.answers(self.project.spec)
        pool = self._pool
        there = sum(row["text_key"] in pool.place for row in mine) if pool else 0
        return {
            "progress": {
                "today": seat.person.today(mine),
                "answered": len(mine),
                "rows": len(pool.keys) if pool else None,
                "left": len(pool.keys) - there if pool else None,
                "skipped": len(seat.skipped),
            },
            "last": [
                {
                    "text_key": row["text_key"],
                    "classes": said(row["label"]),
                    "text": text(row["text"] or "", 200),
                }
                for row in reversed(mine[-_LAST:])
                if row["origin"] == "production"
            ],
        }


def _of_row(row: Mapping[str, Any], day: str, reason: str) -> Question:
    """Return a row that the queue did not choose just now."""
    names = ("text_key", "row_id", "source", "text")
    key, row_id, source, text_ = (str(row[name] or "") for name in names)
    return Question(key, row_id, source, day, text_, reason=reason)


def _told(question: Question) -> dict[str, Any]:
    """Return what is shown of a row: not what is expected of it."""
    return {
        "text_key": question.text_key,
        "text": text(question.text, MOST_CHARS),
        "source": inert(question.source),
        "day": question.day,
        "why": question.why,
        "numbers": {
            "uncertainty": question.uncertainty,
            "density": question.density,
            "disagreement": question.disagreement,
        }
        if not question.reason
        else None,
    }


def _label(classes: object) -> str | None:
    if classes is None:
        return None
    listed = classes if isinstance(classes, list) else []
    if not listed or not all(isinstance(name, str) for name in listed):
        raise FMError(
            "an answer is a list of classes", found=repr(classes)[:80],
            expected='["one"], several of which one is right, or null: cannot tell',
        )  # fmt: skip
    return joined(listed)
