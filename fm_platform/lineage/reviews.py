"""What people said of single actions of cleaning rules: right, or wrong.

A verdict is about a row and a rule, so it holds on every branch, and whatever is rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa

from fm_platform.hashing import fingerprint
from fm_platform.lineage import schema
from fm_platform.lineage.database import Database, moment

Verdict = Literal["accept", "reject"]


@dataclass(frozen=True)
class Action:
    """What a rule did to a row.

    Attributes:
        day: Of the row.
        row_id: Of the row.
        rule: Name of the rule.
        settings: Hash of what the rule declared.
    """

    day: str
    row_id: str
    rule: str
    settings: str


@dataclass(frozen=True)
class Review:
    """One verdict; a later one on the same row and rule replaces it."""

    action: Action
    verdict: Verdict
    actor: str
    reason: str
    decided_at: datetime


@dataclass(frozen=True)
class Standing:
    """The verdicts on one day that stand: rule -> row ids."""

    rejected: Mapping[str, frozenset[str]]
    accepted: Mapping[str, frozenset[str]]

    def hash_of(self, rules: Sequence[str], proposing: Sequence[str]) -> str | None:
        """Return a hash of the verdicts that alter what these rules do; None where none does.

        Args:
            rules: Names of the declared rules.
            proposing: Those of which an accepted proposal is carried out.
        """
        wrong = {rule: sorted(ids) for rule, ids in self.rejected.items() if rule in rules and ids}
        right = {
            rule: sorted(ids)
            for rule, ids in self.accepted.items()
            if rule in rules and rule in proposing and ids
        }
        if not wrong and not right:
            return None
        return fingerprint({"rejected": wrong, "accepted": right})


class Reviews(Database):
    """Verdicts on what cleaning did."""

    def record_reviews(
        self, project: str, actions: Sequence[Action], verdict: Verdict, reason: str, actor: str
    ) -> None:
        """Record one verdict on some actions, all of them or none."""
        with self._write() as connection:
            at = moment(connection)
            rows = [
                {
                    "project": project, "day": action.day, "row_id": action.row_id,
                    "rule": action.rule, "settings": action.settings, "verdict": verdict,
                    "actor": actor, "reason": reason, "decided_at": at,
                }
                for action in actions
            ]  # fmt: skip
            for start in range(0, len(rows), schema.AT_ONCE):
                connection.execute(schema.reviews.insert(), rows[start : start + schema.AT_ONCE])

    def reviews(
        self, project: str, day: str | None = None, *, until: datetime | None = None
    ) -> list[Review]:
        """Return the verdicts that stand, of a day or of all, by day, rule and row id.

        Args:
            project: Whose.
            day: Only of this day.
            until: As they stood at this moment.
        """
        r = schema.reviews.c
        query = sa.select(schema.reviews).where(r.project == project).order_by(r.id)
        if day is not None:
            query = query.where(r.day == day)
        if until is not None:
            query = query.where(r.decided_at <= until)
        last: dict[tuple[str, str, str], Review] = {}
        with self._read() as connection:
            for row in connection.execute(query):
                action = Action(row.day, row.row_id, row.rule, row.settings)
                review = Review(action, row.verdict, row.actor, row.reason, row.decided_at)
                last[row.day, row.rule, row.row_id] = review
        return [last[key] for key in sorted(last)]

    def standing(self, project: str, day: str) -> Standing:
        """Return the verdicts on one day that stand."""
        return _standing(self.reviews(project, day))

    def standing_by_day(self, project: str) -> dict[str, Standing]:
        """Return the verdicts that stand, for each day that has any."""
        days: dict[str, list[Review]] = {}
        for review in self.reviews(project):
            days.setdefault(review.action.day, []).append(review)
        return {day: _standing(listed) for day, listed in days.items()}

    def review_counts(self, project: str, rule: str, settings: str) -> tuple[int, int]:
        """Return how many actions of a rule, as declared so, were accepted and rejected."""
        r = schema.reviews.c
        here = (r.project == project) & (r.rule == rule) & (r.settings == settings)
        query = sa.select(r.day, r.row_id, r.verdict).where(here).order_by(r.id)
        with self._read() as connection:
            last = {(row.day, row.row_id): row.verdict for row in connection.execute(query)}
        counts = Counter(last.values())
        return counts["accept"], counts["reject"]


def _standing(reviews: Sequence[Review]) -> Standing:
    found: dict[str, dict[str, set[str]]] = {"reject": {}, "accept": {}}
    for review in reviews:
        ids = found[review.verdict].setdefault(review.action.rule, set())
        ids.add(review.action.row_id)
    rejected, accepted = (
        {rule: frozenset(ids) for rule, ids in found[verdict].items()}
        for verdict in ("reject", "accept")
    )
    return Standing(rejected, accepted)
