"""An alert from beginning to end: what was found, what was done, what was made, what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import version_name
from fm_platform.monitoring.life import CHANGES, Life, lives
from fm_platform.monitoring.outcome import Score

OUTCOMES = ("repaired", "not_repaired", "made_worse")
_ASKED = re.compile(r"(?:^|\s)alert:([0-9a-f]{12})(?:\s|$)")
_MODEL_KINDS = ("start", "adapter", "merged_model", "evaluation")


def story(ledger: Ledger, life: Life) -> dict[str, Any]:
    """Return alert -> actions -> versions -> outcome as JSON values, oldest first.

    Args:
        ledger: The record of everything.
        life: The alert.

    Returns:
        `actions`: each with `attempt`, `repair`, `reason`, `days`, `run`, the times and its
        `outcome` (`what`, `words`, `score`); `versions`: what its runs made, days of one artifact
        together; `said`: what people said of the cause.
    """
    actions: dict[int, dict[str, Any]] = {}
    for event in life.events:
        number = int(event.body.get("attempt", 0) or len(actions))
        if event.what == "asked":
            actions[number] = _action(event.body, event.reason, event.at.isoformat())
        elif number in actions and event.what in ("running", "finished", *OUTCOMES):
            _add(actions[number], event.what, event.body, event.reason, event.at.isoformat())
    said = [
        {"what": e.what, "actor": e.actor, "reason": e.reason, "at": e.at.isoformat()}
        for e in life.events
        if e.what in (*CHANGES, "approved")
    ]
    made = ledger.asked_for(life.alert.project, life.alert.id)
    return {
        "opened": life.opened.isoformat(),
        "actions": [actions[number] for number in sorted(actions)],
        "versions": _made(made),
        "said": said,
    }


def _action(body: Mapping[str, Any], reason: str, at: str) -> dict[str, Any]:
    return {
        "attempt": int(body["attempt"]), "repair": body["repair"]["title"],
        "kind": body["repair"]["kind"], "reason": reason, "days": list(body["days"]),
        "stages": list(body["stages"]), "models": bool(body["models"]), "asked_at": at,
        "run": None, "ended_at": None, "success": None, "outcome": None,
    }  # fmt: skip


def _add(action: dict[str, Any], what: str, body: Mapping[str, Any], reason: str, at: str) -> None:
    if what == "running":
        action["run"] = body["run"]
    elif what == "finished":
        action.update(ended_at=at, success=body["success"])
    else:
        action["outcome"] = {
            "what": what, "words": reason, "at": at, "score": body.get("score"),
            "versions": body.get("versions", {}),
        }  # fmt: skip


def _made(versions: list[ArtifactVersion]) -> list[dict[str, Any]]:
    """Return what was made: each model by itself, daily artifacts as one line with their days."""
    grouped: dict[tuple[str, str], list[ArtifactVersion]] = {}
    for version in versions:
        grouped.setdefault((version.kind, version.name), []).append(version)
    told = []
    for (kind, name), own in grouped.items():
        days = sorted({version.partition for version in own if version.partition})
        told.append(
            {
                "kind": kind, "name": name, "reference": version_name(own[-1]),
                "id": own[-1].id, "content_hash": own[-1].content_hash, "days": days,
                "number": len(own),
            }
        )  # fmt: skip
    return sorted(told, key=lambda one: (one["kind"] in _MODEL_KINDS, one["id"]))


def alerts_of_version(ledger: Ledger, version: ArtifactVersion) -> list[dict[str, Any]]:
    """Return the alerts that a version was made for, came of, or tells of.

    Returns:
        `id`, `title`, `state`, `role` (`found in`, `made for`, `led to`), `outcome` in words.
    """
    roles: dict[str, str] = {}
    for one in version.location.get("alerts", []):
        roles[str(one["id"])] = "found in"
    for name in _ASKED.findall(version.asked_by):
        roles.setdefault(name, "made for")
    known = lives(ledger.alert_events(version.project))
    for name, life in known.items():
        led = {
            number
            for event in life.events
            if event.what in OUTCOMES
            for number in event.body.get("versions", {}).values()
        }
        if version.id in led:
            roles.setdefault(name, "led to")
    found = []
    for name, role in sorted(roles.items()):
        if name not in known:
            continue
        life = known[name]
        closed = next((e for e in reversed(life.events) if e.what in OUTCOMES), None)
        found.append(
            {
                "id": name, "title": life.alert.title, "state": life.state, "role": role,
                "outcome": closed.reason if closed else "", "run": life.run,
                "at": (closed or life.events[0]).at.isoformat(),
            }
        )  # fmt: skip
    return found


def lines(told: Mapping[str, Any]) -> list[str]:
    """Return a story for a terminal: one line for each action, version and outcome."""
    found = []
    for action in told["actions"]:
        days = action["days"]
        span = f"{len(days)} days, {days[0]} to {days[-1]}" if days else "no day"
        models = " and the models" if action["models"] else ""
        found.append(f"action {action['attempt']}: {action['repair']} ({span}{models})")
        if action["run"]:
            found.append(f"  run: {action['run']}")
        if outcome := action["outcome"]:
            found.append(f"  {outcome['what'].replace('_', ' ')}: {outcome['words']}")
            if outcome["score"]:
                score = Score.from_json(outcome["score"])
                found.append(
                    f"  before {score.before.value:.3f} ({score.before.low:.3f} to "
                    f"{score.before.high:.3f}), after {score.after.value:.3f} "
                    f"({score.after.low:.3f} to {score.after.high:.3f})"
                )
    for version in told["versions"]:
        days = version["days"]
        many = f"{len(days)} days" if len(days) > 1 else version["reference"]
        found.append(f"made: {version['kind']} {version['name']} {many}")
    return found
