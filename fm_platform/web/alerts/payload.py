"""What travels to the alerts page: the list, and one alert with evidence, rows and its story."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.pii import KINDS, find, mask
from fm_platform.display import plain
from fm_platform.monitoring.life import Life, Rulings
from fm_platform.monitoring.profile import Profile
from fm_platform.monitoring.records import ALL, Estimate, Finding
from fm_platform.monitoring.words import sentence
from fm_platform.stages.alert_story import story
from fm_platform.stages.alerts import MACHINE, Desk
from fm_platform.web.lineage.links import Links

MOST_FINDINGS, MOST_MOVES, TEXT_CHARS = 12, 8, 300
_ORDER = ("high", "medium", "low", "record")


def listed(desk: Desk) -> list[dict[str, Any]]:
    """Return the alerts: open ones first, the gravest of them first, then the newest."""
    said = desk.rulings()
    rows = [_row(life, said) for life in desk.lives().values()]
    return sorted(
        rows,
        key=lambda r: (
            not r["open"] or r["severity"] == "record", not r["open"],
            _ORDER.index(r["severity"]) if r["open"] else 0, -r["place"],
        ),
    )  # fmt: skip


def _row(life: Life, said: Rulings) -> dict[str, Any]:
    alert = life.alert
    return {
        "id": alert.id, "title": alert.title, "state": life.state, "since": alert.since,
        "severity": said.severity(alert), "open": life.is_open, "points": alert.impact.worst,
        "opened": life.opened.isoformat(), "place": life.events[0].id,
    }  # fmt: skip


def alert_json(desk: Desk, life: Life, links: Links) -> dict[str, Any]:
    """Return everything that the page shows of one alert."""
    said, alert = desk.rulings(), life.alert
    told = story(desk.ws.ledger, life)
    for action in told["actions"]:
        action["link"] = links.backfill(action["run"])
    for version in told["versions"]:
        version["link"] = links.version(desk.name, version["reference"])
    return {
        **_row(life, said),
        "project": desk.name, "day": alert.day, "own_severity": alert.severity,
        "words": list(alert.words), "reference": alert.reference,
        "cause": dataclasses.asdict(alert.cause), "impact": _impact(life),
        "findings": [_finding(one) for one in alert.findings[:MOST_FINDINGS]],
        "more_findings": max(0, len(alert.findings) - MOST_FINDINGS),
        "repairs": [
            {
                "number": number, "kind": r.kind, "title": r.title, "reason": r.reason,
                "gain": r.gain, "minutes": r.minutes, "machine": r.kind in MACHINE,
                "days": list(r.days),
            }
            for number, r in enumerate(alert.repairs, 1)
        ],
        "busy": life.state in ("asked", "running", "finished", "checking"),
        "accepted": alert.cause.key in said.accepted,
        "story": told,
        "timeline": [
            {"what": e.what, "at": e.at.isoformat(), "actor": e.actor, "reason": e.reason}
            for e in life.events
            if e.what not in ("told", "seen")
        ],
        "rows": _rows(desk, life),
        "commands": [
            f"fm alerts approve {desk.name} {alert.id} --repair N",
            *(f"fm alerts {verb} {desk.name} {alert.id} --reason '...'"
              for verb in ("accept", "raise", "lower", "snooze")),
        ],
    }  # fmt: skip


def _impact(life: Life) -> dict[str, Any]:
    impact = life.alert.impact

    def one(told: Estimate | None) -> dict[str, Any] | None:
        return None if told is None else dataclasses.asdict(told)

    return {
        "score": impact.score, "worst": impact.worst, "share": impact.share,
        "importance": impact.importance, "change": one(impact.change), "gold": one(impact.gold),
        "labels": one(impact.labels), "estimates": [one(e) for e in impact.estimates],
        "models": list(impact.models),
    }  # fmt: skip


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "sentence": sentence(finding), "metric": finding.metric, "slice": finding.slice,
        "kind": finding.kind, "before": finding.before, "after": finding.after,
        "since": finding.since, "rows": finding.rows, "distance": finding.distance,
        "statistic": list(finding.statistic), "p": finding.corrected,
        "band": [finding.band.low, finding.band.high],
        "moves": [dataclasses.asdict(move) for move in finding.moves[:MOST_MOVES]],
    }  # fmt: skip


def _rows(desk: Desk, life: Life) -> dict[str, Any]:
    """Return a few rows of the day that the alert is about; personal data is masked."""
    most, alert = desk.policy.show_rows, life.alert
    if most == 0:
        return {"note": "the policy shows no rows (alerts.show_rows is 0)", "rows": []}
    version = desk.ws.ledger.latest(desk.name, "profile", "profile", alert.day)
    if version is None:
        return {"note": f"there is no profile of {alert.day}", "rows": []}
    sample = Profile.from_table(desk.ws.columns.get(str(version.location["column"]))).sample
    if sample is None or not sample.num_rows:
        return {"note": "the profile of the day holds no rows", "rows": []}
    found = _concerned(sample, alert.cause.slices, alert.cause.name, alert.cause.value)
    names = [n for n in ("source", "text", "label", "gold") if n in found.column_names]
    extra = alert.cause.name
    if extra in found.column_names and extra not in names:
        names.append(extra)
    return {
        "note": f"{min(most, found.num_rows)} of {found.num_rows} sampled rows of {alert.day}",
        "rows": [_masked(row) for row in found.select(names).slice(0, most).to_pylist()],
    }


def _concerned(sample: pa.Table, slices: Sequence[str], column: str, value: str | None) -> pa.Table:
    if ALL not in slices:
        sample = sample.filter(pc.is_in(sample["source"], value_set=pa.array(list(slices))))
    if value is not None and column in sample.column_names:
        same = [str(v) == value for v in sample[column].to_pylist()]
        return sample.filter(pa.array(same, pa.bool_()))
    return sample


def _masked(row: Mapping[str, Any]) -> dict[str, str]:
    told = {}
    for name, value in row.items():
        text = "" if value is None else str(value)
        told[name] = plain(mask(text, find(text, KINDS)), TEXT_CHARS)
    return told
