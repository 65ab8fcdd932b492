"""References: the many ways to name one artifact version, and the one way to find it.

champion                     an alias
merged_model                 what is in use of an artifact: its name ...
adapter/nyt                  ... or kind and name
raw/2026-01-05               ... with its day
votes/vader/2026-01-05       ... kind, name and day
adapter/nyt#3                the third version of it
ca5a48d35e0f                 first digits of a content hash or a recipe hash (4 or more)
#321                         the number of the version in the ledger
0123...cdef (32 digits)      a row: the raw version that holds it
pred-ca5a48d35e0f-0123...    a prediction: the model that made it
REF@2026-01-05               any of them at a time (a day means its end, UTC)
shop:REF                     any of them in another project
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timezone

import sqlalchemy as sa

from fm_platform.display import plain
from fm_platform.errors import RefError
from fm_platform.lineage import schema
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Slot, slot_name

FindRow = Callable[[str, str, datetime | None], ArtifactVersion | None]
"""(project, row id, time or None) -> the raw version that holds the row."""

MIN_DIGITS = 4
_SHOWN = 12
_HEX = re.compile(r"[0-9a-f]{4,64}")
_ROW = re.compile(r"[0-9a-f]{32}")
_PREDICTION = re.compile(r"pred-([0-9a-f]{4,64})-([0-9a-f]{32})")
_NUMBER = re.compile(r"#(\d{1,18})")
_NTH = re.compile(r"(.+)#(\d{1,9})")
_PROJECT = re.compile(r"([A-Za-z0-9_-]{1,64}):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Ref:
    """A reference taken apart.

    Attributes:
        text: As it was written.
        project: The project it names; None: not said.
        body: What is left: a name, an alias, a hash prefix or an id.
        at: The moment it names; None: now.
    """

    text: str
    project: str | None
    body: str
    at: datetime | None


def version_name(version: ArtifactVersion) -> str:
    """Return e.g. `adapter/nyt#3`: a reference that stays with this version."""
    return f"{slot_name(version.slot)}#{version.number}"


def prediction_id(model_hash: str, row_id: str) -> str:
    """Return the id of what a model says of a row, of content hash and row id."""
    return f"pred-{model_hash[:12]}-{row_id}"


def parse_time(text: str) -> datetime:
    """Return the instant that a text names, with its zone.

    A day means its end (all that happened on it had happened); a time without a zone is UTC.

    Raises:
        RefError: If it is no time.

    Example:
        >>> parse_time("2026-01-05").isoformat(), parse_time("2026-01-05T10:00Z").isoformat()
        ('2026-01-05T23:59:59.999999+00:00', '2026-01-05T10:00:00+00:00')
    """
    given = text.strip()
    if given == "now":
        return datetime.now(timezone.utc)
    iso = re.sub(r"[zZ]$", "+00:00", given)
    try:
        found = datetime.fromisoformat(iso)
    except ValueError:
        raise RefError(
            "this is no time",
            found=plain(text, 60),
            expected="2026-01-05, 2026-01-05T10:00, 2026-01-05T10:00:00+02:00 or now",
        ) from None
    if re.fullmatch(r"\d{4}-\d\d-\d\d", given):
        found = datetime.combine(found.date(), time.max)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def parse(text: str) -> Ref:
    """Take a reference apart.

    Raises:
        RefError: If it is empty or its time is none.
    """
    body, at = text.strip(), None
    if "@" in body:
        body, _, when = body.rpartition("@")
        at = parse_time(when)
    project = None
    if found := _PROJECT.fullmatch(body):
        project, body = found[1], found[2]
    if not body:
        raise RefError(
            "this reference names nothing", found=plain(text, 60) or "an empty text",
            expected="e.g. champion, adapter/nyt, raw/2026-01-05, ca5a48d35e0f, raw/2026-01-05@now",
        )  # fmt: skip
    return Ref(text, project, body, at)


def resolve(
    ledger: Ledger,
    project: str | None,
    text: str,
    at: datetime | None = None,
    *,
    find_row: FindRow | None = None,
) -> ArtifactVersion:
    """Return the one version that a reference names, with its inputs.

    Args:
        ledger: The record of all versions.
        project: Where to look; None: in all projects.
        text: The reference; a project or a time in it count more than the arguments.
        at: The moment to look at; None: now.
        find_row: How to find a row; without it a row id names nothing.

    Raises:
        RefError: If it names no version (then or ever), or more than one; candidates are listed.
    """
    ref = parse(text)
    at = ref.at or at
    names = [ref.project or project] if ref.project or project else projects(ledger)
    found: dict[int, ArtifactVersion] = {}
    for name in names:
        for version in _candidates(ledger, str(name), ref.body, at, find_row):
            found[version.id] = version
    if len(found) > 1:
        raise _ambiguous(text, list(found.values()))
    if not found:
        raise _unknown(ledger, ref, [str(name) for name in names], at)
    (version,) = found.values()
    return ledger.get(version.id)


def projects(ledger: Ledger) -> list[str]:
    """Return the projects that have versions, sorted."""
    v = schema.versions.c
    with ledger.reading() as connection:
        return list(connection.scalars(sa.select(v.project).distinct().order_by(v.project)))


def _candidates(
    ledger: Ledger, project: str, body: str, at: datetime | None, find_row: FindRow | None
) -> list[ArtifactVersion]:
    if match := _NUMBER.fullmatch(body):
        return [v for v in ledger.get_many([int(match[1])]) if v.project == project]
    if match := _PREDICTION.fullmatch(body):
        return _by_hash(ledger, project, match[1], at, ("merged_model", "adapter", "start"))
    if _ROW.fullmatch(body) and find_row is not None:
        row = find_row(project, body, at)
        if row is not None:
            return [row]
    # before names: what the champion answered is called `champion`, too
    bearer = ledger.aliases(project, at=at).get(body)
    if bearer is not None:
        return [ledger.get(bearer)]
    named = _by_name(ledger, project, body, at)
    if named or not _HEX.fullmatch(body):
        return named
    return _by_hash(ledger, project, body, at)


def _by_hash(
    ledger: Ledger, project: str, prefix: str, at: datetime | None, kinds: Sequence[str] = ()
) -> list[ArtifactVersion]:
    found = [v for v in ledger.find(prefix) if v.project == project]
    found = [v for v in found if not kinds or v.kind in kinds]
    if at is not None:
        found = [v for v in found if v.created_at <= at]
    if len({(v.slot, v.content_hash) for v in found}) > 1:
        return found
    # versions of one slot with one content differ in their recipes only: the one in use is meant
    used = [v for v in found if _in_use(ledger, v, at)]
    return (used or found)[-1:]


def _in_use(ledger: Ledger, version: ArtifactVersion, at: datetime | None) -> bool:
    head = ledger.latest(version.project, *version.slot, at=at)
    return head is not None and head.id == version.id


def _by_name(ledger: Ledger, project: str, body: str, at: datetime | None) -> list[ArtifactVersion]:
    number = None
    if match := _NTH.fullmatch(body):
        body, number = match[1], int(match[2])
    words = body.split("/")
    if len(words) > 3 or not all(words):
        return []
    if number is not None:
        return _nth(ledger, project, words, number, at)
    slots = ledger.slots_in_use(project, at=at, named=words)
    return ledger.get_many(
        [i for slot, i in slots.items() if _fits(slot, words)], with_inputs=False
    )


def _nth(
    ledger: Ledger, project: str, words: Sequence[str], number: int, at: datetime | None
) -> list[ArtifactVersion]:
    v = schema.versions.c
    query = sa.select(v.id, v.kind, v.name, v.partition).where(
        v.project == project, v.number == number, v.kind.in_(words) | v.name.in_(words)
    )
    if at is not None:
        query = query.where(v.created_at <= at)
    with ledger.reading() as connection:
        found = connection.execute(query).all()
    ids = [row.id for row in found if _fits((row.kind, row.name, row.partition or None), words)]
    return ledger.get_many(ids, with_inputs=False)


def _fits(slot: Slot, words: Sequence[str]) -> bool:
    """Whether words name a slot: `[kind/][name/]partition`, the partition only if it has one."""
    kind, name, partition = slot
    said = [*words]
    if partition is not None:
        if said[-1] == partition:
            said.pop()
        elif len(said) > 2:
            return False
    return said in ([kind, name], [kind], [name])


def _ambiguous(text: str, found: Sequence[ArtifactVersion]) -> RefError:
    listed = sorted(found, key=lambda v: (v.created_at, v.id), reverse=True)
    lines = [_line(version) for version in listed[:_SHOWN]]
    if len(listed) > _SHOWN:
        lines.append(f"... and {len(listed) - _SHOWN} more")
    error = RefError(
        f"{plain(text, 80)!r} names {len(found)} versions",
        expected="one: add kind, name, day or more digits of the hash",
        found="\n    ".join(["", *lines]),
    )
    error.candidates = tuple(version.id for version in listed)
    return error


def _line(version: ArtifactVersion) -> str:
    made = f"{version.created_at:%Y-%m-%d %H:%M}"
    return plain(f"{version_name(version)}  {version.content_hash[:12]}  made {made}")


def _unknown(ledger: Ledger, ref: Ref, names: Sequence[str], at: datetime | None) -> RefError:
    shown = plain(ref.text, 80)
    if at is not None:
        later = [
            version for name in names for version in _candidates(ledger, name, ref.body, None, None)
        ]
        if later:
            first = min(version.created_at for version in later)
            return RefError(
                f"{shown!r} named nothing at {at:%Y-%m-%d %H:%M:%S %Z}",
                found=f"it names {_line(later[0])} now" if len(later) == 1
                else f"{len(later)} versions of that name now, first made {first:%Y-%m-%d %H:%M}",
                next_step="fm log shows since when",
            )  # fmt: skip
    known = {
        word
        for name in names
        for kind, item, _partition in ledger.slots_in_use(name)
        for word in (kind, item, slot_name((kind, item, None)))
    }
    known |= {alias for name in names for alias in ledger.aliases(name)}
    near = difflib.get_close_matches(ref.body.rpartition("#")[0] or ref.body, sorted(known), 5, 0.5)
    if not known:
        return RefError(
            f"{shown!r} names nothing: the ledger holds no version"
            + (f" of {plain(names[0], 64)}" if len(names) == 1 else ""),
            next_step="fm run PROJECT builds some",
        )
    return RefError(
        f"{shown!r} names no version" + (f" of {plain(names[0], 64)}" if len(names) == 1 else ""),
        expected="an alias, a name with or without a day, or 4 or more digits of a hash",
        found="close to it: " + plain(", ".join(near)) if near else None,
        next_step="fm status lists what there is",
    )
