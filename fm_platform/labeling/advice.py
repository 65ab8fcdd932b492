"""What to do about the labeling functions: each a sentence with its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fm_platform.labeling.diagnostics import wilson
from fm_platform.labeling.report import TOGETHER
from fm_platform.labeling.slices import ALL

LEAST_SLICE_ROWS = 20
_CONFLICTING = 0.3
_MOSTLY = 0.5
_SAME = 0.95
_LEAST_VOTES = 20
_BELIEVED = 0.5
_NEARLY = 0.8


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Attributes:
        kind: `no_coverage`, `lost_class`, `fails`, `never_votes`, `below_commonest`, `harms`,
            `copies`, `conflicts` or `drifts`.
        function: Which function; `*` for all together.
        text: The sentence.
    """

    kind: str
    function: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return asdict(self)


@dataclass(frozen=True)
class Failures:
    """The rows on which a function raised or took too long; it abstains there.

    Attributes:
        rows: How many.
        since: The first day with such rows of those that were looked at.
        first: Some of them: `row id: name of the error`.
    """

    rows: int
    since: str
    first: tuple[str, ...]


def advise(
    records: Sequence[Mapping[str, Any]],
    against: Mapping[str, Sequence[Mapping[str, Any]]],
    values: Mapping[str, Mapping[str, Any]],
    drift: Mapping[str, Sequence[Mapping[str, Any]]],
    copies: Sequence[Sequence[str]],
    failures: Mapping[str, Failures] | None = None,
    people: Mapping[str, str] | None = None,
) -> list[Advice]:
    """Return what to do, the gravest kind first.

    Args:
        records: As of `report.records`.
        against: As of `report.against`.
        values: Function -> its marginal value (`value.Value.to_json`).
        drift: Function -> changes found, the surest first.
        copies: Functions that the label model counts as one voice.
        failures: Function -> the rows on which it failed.
        people: Function -> the person whose answers are its votes.
    """
    whole = {r["function"]: r for r in records if (r["source"], r["slice"]) == (ALL, ALL)}
    found: list[Advice] = []
    silent = []
    for name, record in whole.items():
        if name == TOGETHER:
            continue
        found += _fails(name, (failures or {}).get(name))
        if not record["votes"]:
            silent.append(name)
            found.append(_silent(name, record["rows"], (people or {}).get(name)))
            continue
        found += _wrong(name, record)
        found += _harms(name, values.get(name))
        found += _drifts(name, drift.get(name, ()))
        found += _conflicts(name, record, against.get(name, ()))
    found += _copies(whole, against, copies, set(silent))
    found += _uncovered(records)
    found += _lost(whole)
    order = ("no_coverage", "lost_class", "fails", "never_votes", "below_commonest", "harms",
             "copies", "conflicts", "drifts")  # fmt: skip
    return sorted(found, key=lambda one: order.index(one.kind))


def _silent(name: str, rows: int, person: str | None) -> Advice:
    if person is None:
        text = f"{name} never votes on {rows} rows: correct it, or remove it"
    else:
        text = f"{person} answered none of {rows} rows: fm label queue asks ({name})"
    return Advice("never_votes", name, text)


def _fails(name: str, failed: Failures | None) -> list[Advice]:
    if failed is None:
        return []
    return [
        Advice(
            "fails", name,
            f"{name} failed on {failed.rows} rows since {failed.since} and abstains there, e.g. on "
            f"{failed.first[0]}: mend it (fm trace ROW_ID shows the row)",
        )
    ]  # fmt: skip


def _wrong(name: str, record: Mapping[str, Any]) -> list[Advice]:
    dev = record["dev"]
    if not dev["n"]:
        return []
    # a few rows show neither how often it is right nor which class is the commonest
    commonest, _ = wilson(round(dev["commonest_class"] * dev["n"]), dev["n"])
    if dev["high"] >= commonest:
        return []
    return [
        Advice(
            "below_commonest", name,
            f"{name} is right on {dev['right']} of {dev['n']} dev rows (at most {dev['high']:.0%} "
            f"likely); always saying the commonest class there is right on "
            f"{dev['commonest_class']:.0%}: correct its class or its condition",
        )
    ]  # fmt: skip


def _harms(name: str, value: Mapping[str, Any] | None) -> list[Advice]:
    if value is None or value["high"] is None or value["high"] >= 0:
        return []
    return [
        Advice(
            "harms", name,
            f"without {name} the label model is better on dev: log loss {value['log_loss']:+.3f} "
            f"nats a row ({value['low']:+.3f} to {value['high']:+.3f}): remove it or narrow it",
        )
    ]  # fmt: skip


def _conflicts(
    name: str, record: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> list[Advice]:
    if not others or record["conflict"] < _CONFLICTING * record["coverage"]:
        return []
    most = others[0]
    if most["share_of_conflicts"] < _MOSTLY or most["contradict"] < _LEAST_VOTES:
        return []
    return [
        Advice(
            "conflicts", name,
            f"{name} is contradicted on {record['conflict'] / record['coverage']:.0%} of its "
            f"votes, mostly by {most['function']} ({most['contradict']} rows): look at these "
            "rows and decide which of the two is wrong there",
        )
    ]  # fmt: skip


def _copies(
    whole: Mapping[str, Mapping[str, Any]],
    against: Mapping[str, Sequence[Mapping[str, Any]]],
    copies: Sequence[Sequence[str]],
    silent: set[str],
) -> list[Advice]:
    found, told = [], set()
    for name in sorted(against):
        for other in against[name]:
            pair = frozenset((name, other["function"]))
            if other["same"] >= _SAME and other["both"] >= _LEAST_VOTES and pair not in told:
                told.add(pair)
                found.append(
                    Advice(
                        "copies", name,
                        f"{name} says the same as {other['function']} on {other['same']:.0%} of "
                        "the rows on which either votes: keep one of them",
                    )
                )  # fmt: skip
    for group in copies:
        alive = [name for name in group if name in whole and name not in silent]
        if len(alive) > 1:
            found.append(
                Advice(
                    "copies", alive[0],
                    f"{', '.join(alive)} copy one another: the label model counts them as one "
                    "voice, so another copy adds nothing",
                )
            )  # fmt: skip
    return found


def _uncovered(records: Sequence[Mapping[str, Any]]) -> list[Advice]:
    return [
        Advice(
            "no_coverage", TOGETHER,
            f"no function votes on the {r['rows']} rows of "
            f"{_where(str(r['source']), str(r['slice']))}: write one for them",
        )
        for r in records
        if r["function"] == TOGETHER and r["rows"] >= LEAST_SLICE_ROWS and not r["votes"]
    ]  # fmt: skip


def _lost(whole: Mapping[str, Mapping[str, Any]]) -> list[Advice]:
    """Return the classes of which the label model believes nobody who votes for them."""
    found = []
    for label in sorted(whole.get(TOGETHER, {}).get("by_class", {})):
        voters = {
            name: int(record["by_class"][label])
            for name, record in whole.items()
            if name != TOGETHER and record["by_class"].get(label)
        }
        doubted = all(
            count >= _NEARLY * whole[name]["votes"] and whole[name]["estimated"]["high"] < _BELIEVED
            for name, count in voters.items()
        )
        if doubted and sum(voters.values()) >= _LEAST_VOTES:
            found.append(
                Advice(
                    "lost_class", TOGETHER,
                    f"the label model takes the {sum(voters.values())} votes for {label} (of "
                    f"{', '.join(voters)}) to be wrong more often than right, so hardly a row "
                    f"becomes {label}: rate some of these rows, it learns from that, or write "
                    "another function for the class",
                )
            )  # fmt: skip
    return found


def _drifts(name: str, changes: Sequence[Mapping[str, Any]]) -> list[Advice]:
    if not changes:
        return []
    one = changes[0]
    return [
        Advice(
            "drifts", name,
            f"{name} says {one['value']} on {one['after']:.1%} of the rows of {one['source']} "
            f"since {one['since']}, before on {one['before']:.1%}: look at these days",
        )
    ]  # fmt: skip


def _where(source: str, slice_: str) -> str:
    if slice_ == ALL:
        return "all sources" if source == ALL else f"source {source}"
    return f"slice {slice_}" + ("" if source == ALL else f" of source {source}")
