"""Alerts in words that a person understands at once. Values of the data are made inert."""

from __future__ import annotations

from fm_platform.display import plain
from fm_platform.monitoring.cause import Group
from fm_platform.monitoring.records import ALL, Cause, Finding, Impact

_CELL = 40


def shown(value: object) -> str:
    """Return a value of the data for a sentence: one line, short, inert."""
    return plain(value, _CELL)


def percent(share: float) -> str:
    """Return a share as a person writes it: `61 %`, `0.4 %`."""
    points = 100 * share
    return f"{points:.0f} %" if abs(points) >= 1 or points == 0 else f"{points:.1f} %"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:.3g}"


def title_of(group: Group, share: float, total: int) -> str:
    """Return one line that says what moved, from what to what, where and since when."""
    cause = group.cause
    since = min(f.since for f in group.findings)
    where = "all sources" if set(cause.slices) == {ALL} else ", ".join(map(shown, cause.slices))
    lead = _lead(group, share)
    return f"{lead}{_where(cause.kind, where)} since {since}"


def _where(kind: str, where: str) -> str:
    return "" if kind in ("source_came", "source_gone", "volume", "duplicates") else f" in {where}"


def _lead(group: Group, share: float) -> str:
    cause = group.cause
    name = shown(cause.name)
    top = _of_cause(group)
    if cause.kind == "source_came":
        return f"`source`: {name} is {percent(share)} of the rows (was 0 %)"
    if cause.kind in ("volume", "source_gone"):
        who = "all sources" if cause.name == ALL else name
        rows = sum(f.after for f in group.findings if f.metric == "rows:source")
        was = sum(f.before for f in group.findings if f.metric == "rows:source")
        return f"rows of {who}: {rows:.0f} (usually {was:.0f})"
    if cause.kind == "duplicates":
        before, after = _share_of(top, "repeated")
        return (
            f"`text`: {percent(after)} of the rows of {name} stand more than once "
            f"(was {percent(before)})"
        )
    if cause.kind == "nulls":
        return f"`{name}`: {percent(top.after)} are empty (was {percent(top.before)})"
    if cause.kind == "range":
        return f"`{name}`: median {number(top.after)} (was {number(top.before)})"
    if cause.kind == "value" and top.family == "column":
        return f"`{name}`: {_move(top)}"
    if cause.kind == "value":
        return f"`{name}`: the functions that read it moved ({_function(top)})"
    if cause.kind == "function" and not _names(top, cause):
        return f"labeling function `{name}`: the live model believes fewer of its votes"
    if cause.kind == "function":
        return f"labeling function `{name}`: {_function(top)}"
    if cause.kind == "label_model":
        return f"label model: {shown(cause.value)} instead of {name}"
    if cause.kind == "language":
        return f"`text`: language {shown(cause.value)} {_from_to(top)}"
    if cause.kind == "labels":
        return f"labels: {_move(top)}"
    if cause.kind == "concept":
        place = f" where `{name}` is {shown(cause.value)}" if cause.value else ""
        before, after = _share_of(top, "right")
        return f"people and the model agree less{place}: {percent(after)} (was {percent(before)})"
    if cause.kind == "text":
        came = ", ".join(map(shown, cause.terms))
        return f"`text` reads otherwise{f' (terms that came: {came})' if came else ''}"
    if cause.kind == "confidence":
        who = "weak labels are" if cause.name == "weak" else "the live model is"
        return f"{who} {'surer' if top.after > top.before else 'less sure'}: {_move(top)}"
    return f"{name}: {_move(top)}"


def terms_words(cause: Cause) -> list[str]:
    """Return the terms that came with a source or a language, as a sentence; none: no sentence."""
    if not cause.terms or cause.kind not in ("source_came", "language"):
        return []
    return [f"terms that came: {', '.join(map(shown, cause.terms))}"]


def _of_cause(group: Group) -> Finding:
    """Return the finding that says most of the cause itself."""
    families = {
        "nulls": ("column_nulls", "column"), "range": ("column",), "value": ("column",),
        "duplicates": ("duplicates",), "language": ("language",), "labels": ("label", "answer"),
        "concept": ("accuracy",),
    }.get(group.cause.kind, ())  # fmt: skip
    if group.cause.kind == "function":  # it alone, or what else is said of it
        own = [f for f in group.findings if _names(f, group.cause)]
        if own:
            return min(own, key=lambda f: (f.family == "conflict", -f.distance))
    for family in families:
        own = [f for f in group.findings if f.family == family]
        named = [f for f in own if f.name == group.cause.name] or own
        if named:
            return max(named, key=lambda f: f.distance)
    return max(group.findings, key=lambda f: (-f.corrected, f.distance))


def _names(finding: Finding, cause: Cause) -> bool:
    """Whether a finding is of the function that is the cause."""
    return finding.family in ("function", "conflict") and finding.name == cause.name


def _share_of(finding: Finding, value: str) -> tuple[float, float]:
    """Return the shares of one of two values, before and after."""
    for move in finding.moves:
        if move.value == value:
            return move.before, move.after
    return 1 - finding.before, 1 - finding.after


def _move(finding: Finding) -> str:
    if finding.kind == "range":
        return f"median {number(finding.after)} (was {number(finding.before)})"
    if not finding.moves:
        return f"{number(finding.after)} (was {number(finding.before)})"
    top = finding.moves[0]
    return f"{shown(top.value)} {percent(top.before)} → {percent(top.after)}"


def _from_to(finding: Finding) -> str:
    came = max(finding.moves, key=lambda move: move.change, default=None)
    return f"{percent(came.before)} → {percent(came.after)}" if came else ""


def _function(finding: Finding) -> str:
    if finding.family == "conflict":
        share = {move.value: move for move in finding.moves}.get("conflicts")
        if share is None:
            return _move(finding)
        before, after = percent(share.before), percent(share.after)
        return f"contradicts the others on {after} of its votes (was {before})"
    quiet = {move.value: move for move in finding.moves}.get("abstains")
    if quiet is not None and abs(quiet.change) > 0.02:
        verb = "fell" if quiet.change > 0 else "rose"
        return f"coverage {verb} from {percent(1 - quiet.before)} to {percent(1 - quiet.after)}"
    return f"votes {_move(finding)}"


def sentence(finding: Finding) -> str:
    """Return one finding as a sentence: value, band, the three nearest past days."""
    where = "" if finding.slice == ALL else f" in {shown(finding.slice)}"
    family = finding.family
    if family == "rows":
        said = f"rows{where}: {finding.after:.0f} (usually {finding.before:.0f})"
    elif family in ("function", "conflict"):
        said = f"labeling function `{shown(finding.name)}`{where}: {_function(finding)}"
    elif family == "terms":
        moves = [
            f"{shown(m.value)} {percent(m.before)} → {percent(m.after)}" for m in finding.moves[:4]
        ]
        said = f"terms{where}: {', '.join(moves)}"
    elif family == "embedding":
        said = (
            f"embeddings{where}: the mean moved by {number(finding.distance)} standard deviations"
        )
    elif family == "accuracy":
        before, after = _share_of(finding, "right")
        told = "weak labels" if finding.name == "weak" else "answers"
        said = f"right {told} on gold{where}: {percent(before)} → {percent(after)}"
    else:
        said = f"`{shown(finding.metric)}`{where}: {_move(finding)}"
    if finding.kind == "came":
        return f"rows{where}: {finding.after:.0f} (no row of it before)"
    if family == "rows":
        band = f"band {finding.band.low:.0f} to {finding.band.high:.0f}"
    else:
        band = f"distance {number(finding.distance)}, band up to {number(finding.band.high)}"
    past = ", ".join(f"{day[5:]}: {number(value)}" for day, value in finding.band.nearest)
    return f"{said} ({band}{f'; past days {past}' if past else ''})"


def impact_words(impact: Impact) -> str:
    """Return what it costs, in a sentence."""
    change = impact.change
    said = (
        f"estimated change of the live model's {impact.score} on these days: {change.points:+.1f} "
        f"points ({change.low:+.1f} to {change.high:+.1f}, by {change.method})"
    )
    if change.low == change.high == 0.0:
        said = f"the live model's {impact.score} stays: {change.method}"
    if impact.gold is not None:
        said += f"; on {impact.gold.rows} gold rows alone {impact.gold.points:+.1f}"
    if impact.labels is not None and abs(impact.labels.points) >= 0.05:
        said += f"; of right weak labels {impact.labels.points:+.1f} points"
    if impact.importance is not None:
        said += f"; importance to the model {percent(impact.importance)}"
    if impact.models:
        said += f"; read by {', '.join(impact.models)}"
    return said + "."


def evidence_words(group: Group, most: int = 6) -> list[str]:
    """Return the findings as sentences, and how many more there are: the cause's own come first.

    A function may be the cause though only others moved, which contradict it now: that is said.
    """
    top, cause = _of_cause(group), group.cause
    ordered = sorted(group.findings, key=lambda f: (f is not top, f.corrected, -f.distance, f.key))
    said = [sentence(finding) for finding in ordered[:most]]
    if cause.kind == "function" and not _names(top, cause):
        where = ", ".join(map(shown, cause.slices))
        said.insert(
            0,
            f"labeling function `{shown(cause.name)}` in {where}: the live model agrees with fewer "
            "of its votes than it did; it was found where others contradict it:",
        )
    if len(ordered) > most:
        said.append(f"and {len(ordered) - most} more findings of the same cause.")
    return said
