"""What cleaning did, row by row, for people to accept or reject; and how right each rule is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import FMError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.diagnostics import wilson
from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.reviews import Action, Verdict
from fm_platform.stages import tables
from fm_platform.workspace import Workspace

What = Literal["removed", "changed", "proposed", "spared"]


@dataclass(frozen=True)
class Precision:
    """How often a rule, as declared now, was found right.

    Attributes:
        accepted: Actions that people accepted.
        rejected: Actions that people rejected.
        estimate: (accepted + 1) / (reviewed + 2): the mean with a uniform prior.
        low: Lower end of the 95 % interval (Wilson).
        high: Upper end.
    """

    accepted: int
    rejected: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Deed:
    """One row that a rule removed, changed, would change, or leaves alone.

    Attributes:
        what: `removed`, `changed`, `proposed` where the rule is not sure enough, or `spared`:
            people said that the rule is wrong about it, and it is built so.
        effect: By how much a review is expected to move the model; only for ordering.
        verdict: What people said of it; None where nobody did.
    """

    day: str
    row_id: str
    source: str
    rule: str
    settings: str
    what: What
    reason: str
    column: str
    before: str | None
    after: str | None
    effect: float
    verdict: Verdict | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def deeds(
    ws: Workspace, project: str, day: str | None = None, rule: str | None = None
) -> list[Deed]:
    """Return what cleaning did and proposed, those first whose review moves the model most.

    Args:
        ws: Where it is recorded.
        project: Whose.
        day: Only of this day.
        rule: Only of this rule.

    Raises:
        FMError: If no such day is cleaned, or no such rule ran.
    """
    if day is None:
        heads = ws.ledger.heads(project)
        days = sorted(str(h.partition) for h in heads if h.kind == "cleaned")
        if not days:
            raise FMError(
                f"{project} has no cleaned rows",
                next_step=f"fm projects lists the projects, and fm run {project} builds this one",
            )
    else:
        days = [day]
    found: list[Deed] = []
    ran: set[str] = set()
    for one in days:
        version = ws.ledger.latest(project, "cleaned", "cleaned", one)
        if version is None:
            raise FMError(f"{project} has no cleaned rows of {one}", next_step=f"fm run {project}")
        ran |= {str(declared["rule"]) for declared in version.config["rules"]}
        of_day = [deed for deed in _of_day(ws, version) if rule in (None, deed.rule)]
        ran |= {deed.rule for deed in of_day}
        found += of_day
    if rule is not None and rule not in ran:
        raise FMError(
            f"no cleaning rule {rule!r} ran here",
            expected=", ".join(sorted(ran)) or "a declared rule",
        )
    return sorted(found, key=lambda deed: (-deed.effect, deed.day, deed.rule, deed.row_id))


def precision(ws: Workspace, project: str, rule: str, settings: str) -> Precision:
    """Return how right a rule with these settings was, as far as people said."""
    accepted, rejected = ws.ledger.review_counts(project, rule, settings)
    low, high = wilson(accepted, accepted + rejected)
    estimate = (accepted + 1) / (accepted + rejected + 2)
    return Precision(accepted, rejected, estimate, low, high)


def decide(
    ws: Workspace, project: str, chosen: Sequence[Deed], verdict: Verdict, reason: str, actor: str
) -> None:
    """Record a verdict on some deeds, and one decision for all of them."""
    actions = [Action(deed.day, deed.row_id, deed.rule, deed.settings) for deed in chosen]
    ws.ledger.record_reviews(project, actions, verdict, reason, actor)
    for day in sorted({deed.day for deed in chosen}):
        rows = [deed for deed in chosen if deed.day == day]
        rules = sorted({deed.rule for deed in rows})
        version = ws.ledger.latest(project, "cleaned", "cleaned", day)
        told = f"{verdict}ed {len(rows)} of {', '.join(rules)}" + (f": {reason}" if reason else "")
        numbers = {"verdict": verdict, "day": day, "rules": rules, "rows": len(rows)}
        ws.ledger.record_decision(
            project, "review", version.id if version else None, numbers, told, actor
        )


def chosen(listed: Sequence[Deed], row: str, rule: str | None) -> Deed:
    """Return the one deed that a row id, or the beginning of one, and a rule name.

    Raises:
        FMError: If there is none, or more than one.
    """
    found = [d for d in listed if d.row_id.startswith(row) and rule in (None, d.rule)]
    if len({(d.row_id, d.rule) for d in found}) != 1:  # a rule may change two columns of a row
        names = sorted({f"{d.row_id} by {d.rule}" for d in found})
        raise FMError(
            f"{len(found)} rows that cleaning removed or changed are called {row!r}",
            expected="one: the beginning of its id, and --rule where several rules touched it",
            found=", ".join(names[:5]) or "none",
            next_step="fm clean review lists them",
        )
    return found[0]


def _of_day(ws: Workspace, version: ArtifactVersion) -> Iterator[Deed]:
    project, day = version.project, str(version.partition)
    settings = {str(r["rule"]): fingerprint(r) for r in reversed(version.config["rules"])}
    standing = ws.ledger.standing(project, day)
    doubt = {rule: 1 - precision(ws, project, rule, key).estimate for rule, key in settings.items()}
    listed: list[tuple[dict[str, Any], dict[str, Any] | None]]
    listed = [(row, None) for row in tables.read(ws, version, "quarantine").to_pylist()]
    notes = {(n["row_id"], n["rule"], n["column"]): n for n in tables.corrections(ws, version)}
    listed += [(note, note) for note in notes.values() if not note["applied"]]
    for row, proposed in listed:
        rule, row_id = row["rule"], row["row_id"]
        verdict: Verdict | None = None
        if row_id in standing.accepted.get(rule, ()):
            verdict = "accept"
        elif row_id in standing.rejected.get(rule, ()):
            verdict = "reject"
        note = notes.get((row_id, rule, row["column"]))
        what: What = "proposed" if proposed else "removed" if row["removed"] else "changed"
        yield Deed(
            day, row_id, row["source"], rule, settings.get(rule, ""), what, row["reason"],
            row["column"], row["before"], row["after"],
            note["effect"] if note else doubt.get(rule, 0.5), verdict,
        )  # fmt: skip
    done = {(row["rule"], row["row_id"]) for row, _ in listed}
    spared = {
        rule: sorted(row for row in rows if (rule, row) not in done)
        for rule, rows in standing.rejected.items()
        if rule in settings
    }
    yield from _spared(ws, project, day, spared, settings)


def _spared(
    ws: Workspace, project: str, day: str, spared: Mapping[str, list[str]],
    settings: Mapping[str, str],
) -> Iterator[Deed]:  # fmt: skip
    """Yield the rows that rules leave alone: a verdict can be taken back."""
    labels = ws.ledger.latest(project, "weak_labels", "weak_labels", day)
    if labels is None or not any(spared.values()):
        return
    wanted = pa.array(sorted({row for rows in spared.values() for row in rows}), pa.string())
    read = tables.read(ws, labels, "weak_labels", ["row_id", "source", "text"])
    there = {
        row["row_id"]: row
        for row in read.filter(pc.is_in(read["row_id"], value_set=wanted)).to_pylist()
    }
    for rule, rows in sorted(spared.items()):
        for row in (there[row_id] for row_id in rows if row_id in there):
            yield Deed(
                day, row["row_id"], row["source"], rule, settings[rule], "spared",
                "left as it came: people rejected what the rule did", "text", row["text"], None,
                0.0, "reject",
            )  # fmt: skip
