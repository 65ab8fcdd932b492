"""What the labeling functions did on one day, as counts that add up over days.

The counts of a day are made once, from its rows alone. A report over any days adds them up, so
what a day costs does not grow with history. All sums are whole numbers (probabilities count in
millionths), so they do not depend on the order in which they are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.labeling.partial import ABSTAIN, ClassSets
from fm_platform.labeling.patterns import Floats, Votes
from fm_platform.labeling.slices import ALL

Bools = npt.NDArray[np.bool_]
ROWS, VOTED, OVERLAP, CONFLICT, BELIEVED, SPREAD = range(6)
"""Columns of a cell; the votes for each class follow."""
FIXED = 6
MILLION = 1_000_000
DISPUTED = 12
BARE = 64
_BATCH = 16_384

SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("source", pa.string()),
        ("slice", pa.string()),
        ("row_id", pa.string()),
        ("label", pa.string()),
        ("names", pa.list_(pa.string())),
        ("numbers", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class GoldRow:
    """A dev row of which people told the class.

    Attributes:
        slices: The declared slices it is in.
        label: Its class.
        right: For each function 1 (right), 0 (wrong) or -1 (no vote); a vote for several classes
            is right where one of them is the row's.
    """

    row_id: str
    source: str
    slices: tuple[str, ...]
    label: str
    right: tuple[int, ...]


@dataclass(frozen=True)
class Noted:
    """A row worth looking at.

    Attributes:
        score: Pairs of votes that contradict each other; of a bare row its votes.
        said: `function: class` of each vote.
    """

    row_id: str
    source: str
    score: int
    said: tuple[str, ...]


@dataclass(frozen=True)
class DayCounts:
    """What is kept of one day.

    Attributes:
        functions: m names.
        classes: k names.
        cells: (source, slice) -> float64[m + 1, 6 + k], for each function and, last, for all of
            them together: rows, rows with a vote, with another function's vote as well, with a
            vote that contradicts another; the label model's probability that the vote is right,
            and its p(1 - p), summed in millionths; votes for each class. The slice `all` is every
            row of the source.
        pairs: Source -> float64[2, m, m]: rows on which both vote, on which they contradict.
        gold: Dev gold rows, by source and row id.
        disputed, bare: Rows worth looking at, none of the test split: those on which most pairs
            of votes contradict each other, and those with no vote or a single one.
    """

    functions: tuple[str, ...]
    classes: tuple[str, ...]
    cells: Mapping[tuple[str, str], Floats]
    pairs: Mapping[str, Floats]
    gold: tuple[GoldRow, ...] = ()
    disputed: tuple[Noted, ...] = ()
    bare: tuple[Noted, ...] = ()

    def to_table(self) -> pa.Table:
        """Return everything as an Arrow table of `SCHEMA`."""
        rows = [_row("functions", names=self.functions), _row("classes", names=self.classes)]
        for (source, slice_), numbers in sorted(self.cells.items()):
            rows.append(_row("cell", source, slice_, numbers=numbers))
        for source, numbers in sorted(self.pairs.items()):
            rows.append(_row("pairs", source, numbers=numbers))
        for one in self.gold:
            rows.append(
                _row("gold", one.source, "", one.row_id, one.label, one.slices, np.array(one.right))
            )
        for part, listed in (("disputed", self.disputed), ("bare", self.bare)):
            for row in listed:
                score = np.array([row.score])
                rows.append(_row(part, row.source, "", row.row_id, "", row.said, score))
        return pa.Table.from_pylist(rows, SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> DayCounts:
        """Return what `to_table` wrote."""
        parts: dict[str, list[dict[str, object]]] = {}
        names = table["names"].to_pylist()
        numbers = table["numbers"].combine_chunks()
        for i, row in enumerate(table.select(SCHEMA.names[:5]).to_pylist()):
            told = np.asarray(numbers[i].values, np.float64)
            parts.setdefault(row["part"], []).append(
                {**row, "names": tuple(names[i]), "numbers": told}
            )
        functions: tuple[str, ...] = parts["functions"][0]["names"]  # type: ignore[assignment]
        classes: tuple[str, ...] = parts["classes"][0]["names"]  # type: ignore[assignment]
        m = len(functions)
        cells = {
            (str(r["source"]), str(r["slice"])): _shaped(r, (m + 1, FIXED + len(classes)))
            for r in parts.get("cell", ())
        }
        pairs = {str(r["source"]): _shaped(r, (2, m, m)) for r in parts.get("pairs", ())}
        gold = tuple(
            GoldRow(
                str(r["row_id"]), str(r["source"]), r["names"], str(r["label"]),  # type: ignore[arg-type]
                tuple(_shaped(r, (m,)).astype(int).tolist()),
            )
            for r in parts.get("gold", ())
        )  # fmt: skip
        noted = {
            part: tuple(
                Noted(str(r["row_id"]), str(r["source"]), int(_shaped(r, (1,))[0]), r["names"])  # type: ignore[arg-type]
                for r in parts.get(part, ())
            )
            for part in ("disputed", "bare")
        }
        return cls(functions, classes, cells, pairs, gold, noted["disputed"], noted["bare"])


@dataclass(frozen=True)
class Voted:
    """The rows of a day, as the label model left them.

    Attributes:
        row_ids, sources: n names.
        votes: int8[n, m].
        sets: What votes below -1 mean.
        probabilities: float32[n, k], of the label model.
        held_out: bool[n], rows of the test split.
        slices: Slice -> bool[n].
    """

    row_ids: Sequence[str]
    sources: Sequence[str]
    votes: Votes
    sets: ClassSets
    probabilities: npt.NDArray[np.float32]
    held_out: Bools
    slices: Mapping[str, Bools]


def count_day(
    day: Voted,
    functions: Sequence[str],
    classes: Sequence[str],
    gold: Sequence[tuple[str, str]] = (),
) -> DayCounts:
    """Count one day.

    Args:
        day: Its rows.
        functions: m names.
        classes: k names.
        gold: (row id, class) of the dev gold rows.
    """
    n, m = day.votes.shape
    sources = np.array(day.sources, dtype=object)
    names = sorted(set(day.sources))
    groups = {(s, ALL): sources == s for s in names}
    groups |= {(s, x): (sources == s) & inside for s in names for x, inside in day.slices.items()}
    cells = {key: np.zeros((m + 1, FIXED + len(classes))) for key in groups}
    pairs = {s: np.zeros((2, m, m)) for s in names}
    contradictions = np.zeros(n, np.int64)
    for start in range(0, n, _BATCH):
        part = slice(start, start + _BATCH)
        allowed = day.sets.allowed(day.votes[part], len(classes))
        voted = day.votes[part] != ABSTAIN
        apart = _contradicting(allowed)
        contradictions[part] = np.triu(apart).sum(axis=(1, 2))
        told = _told(day.votes[part], voted, allowed, apart, day.probabilities[part])
        for key, inside in groups.items():
            cells[key] += told[inside[part]].sum(axis=0, dtype=np.int64)
        for source in names:
            own = groups[(source, ALL)][part]
            both = voted[own].astype(np.float64)
            pairs[source][0] += both.T @ both
            pairs[source][1] += apart[own].sum(axis=0)
    return DayCounts(
        tuple(functions), tuple(classes), cells, pairs, _gold(day, classes, gold),
        *_noted(day, functions, classes, contradictions),
    )  # fmt: skip


def _contradicting(allowed: Bools) -> Bools:
    """Return bool[n, m, m], which two votes leave no class in common; silence contradicts none."""
    n, m, _ = allowed.shape
    apart = np.zeros((n, m, m), np.bool_)
    for one in range(m):
        for other in range(one + 1, m):
            both = ~(allowed[:, one] & allowed[:, other]).any(axis=1)
            apart[:, one, other] = apart[:, other, one] = both
    return apart


def _told(
    votes: Votes, voted: Bools, allowed: Bools, apart: Bools, probabilities: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Return int64[n, m + 1, 6 + k], what each row adds to the cells that it is in."""
    n, m = votes.shape
    k = allowed.shape[2]
    told = np.zeros((n, m + 1, FIXED + k), np.int64)
    some = voted.sum(axis=1)
    differs = np.asarray(apart.any(axis=2), np.bool_)
    told[:, :, ROWS] = 1
    told[:, :m, VOTED], told[:, m, VOTED] = voted, some > 0
    told[:, :m, OVERLAP] = voted & (some > 1)[:, None]
    told[:, m, OVERLAP] = some > 1
    told[:, :m, CONFLICT], told[:, m, CONFLICT] = differs, apart.any(axis=(1, 2))
    mass = np.minimum(np.einsum("nmk,nk->nm", allowed, probabilities.astype(np.float64)), 1.0)
    right = np.concatenate([mass * voted, (probabilities.max(axis=1) * (some > 0))[:, None]], 1)
    told[:, :, BELIEVED] = np.rint(right * MILLION)
    told[:, :, SPREAD] = np.rint(right * (1 - right) * MILLION)
    for label in range(k):
        told[:, :m, FIXED + label] = votes == label
    told[:, m, FIXED:] = told[:, :m, FIXED:].sum(axis=1)
    return told


def _gold(
    day: Voted, classes: Sequence[str], gold: Sequence[tuple[str, str]]
) -> tuple[GoldRow, ...]:
    place = {row: i for i, row in enumerate(day.row_ids)}
    found = []
    for row, label in gold:
        if row not in place or label not in classes:
            continue
        i = place[row]
        votes = day.votes[i]
        named = day.sets.allowed(votes, len(classes))[:, list(classes).index(label)]
        right = np.where(votes == ABSTAIN, -1, named.astype(int))
        inside = tuple(name for name, members in day.slices.items() if members[i])
        found.append(GoldRow(row, day.sources[i], inside, label, tuple(right.tolist())))
    return tuple(sorted(found, key=lambda one: (one.source, one.row_id)))


def _noted(
    day: Voted,
    functions: Sequence[str],
    classes: Sequence[str],
    contradictions: npt.NDArray[np.int64],
) -> tuple[tuple[Noted, ...], tuple[Noted, ...]]:
    """Return the most disputed rows, and those with the fewest votes; no test row is shown."""
    ids = np.array(day.row_ids, dtype=object)
    sure = day.probabilities.max(axis=1, initial=0.0)
    votes = (day.votes != ABSTAIN).sum(axis=1)
    disputed = np.flatnonzero((contradictions > 0) & ~day.held_out)
    order = np.lexsort((ids[disputed].astype(str), sure[disputed], -contradictions[disputed]))
    bare = np.flatnonzero((votes < 2) & ~day.held_out)
    fewest = np.lexsort((ids[bare].astype(str), votes[bare]))

    def noted(rows: npt.NDArray[np.int64], scores: npt.NDArray[np.int64]) -> tuple[Noted, ...]:
        return tuple(
            Noted(
                day.row_ids[i], day.sources[i], int(scores[i]),
                tuple(
                    f"{name}: {day.sets.names(int(vote), classes)}"
                    for name, vote in zip(functions, day.votes[i], strict=True)
                    if vote != ABSTAIN
                ),
            )
            for i in rows.tolist()
        )  # fmt: skip

    return noted(disputed[order[:DISPUTED]], contradictions), noted(bare[fewest[:BARE]], votes)


def _row(
    part: str, source: str = "", slice_: str = "", row_id: str = "", label: str = "",
    names: Sequence[str] = (), numbers: npt.NDArray[np.number] | None = None,
) -> dict[str, object]:  # fmt: skip
    told = [] if numbers is None else np.asarray(numbers, np.float64).reshape(-1).tolist()
    return {
        "part": part, "source": source, "slice": slice_, "row_id": row_id, "label": label,
        "names": list(names), "numbers": told,
    }  # fmt: skip


def _shaped(row: Mapping[str, object], shape: tuple[int, ...]) -> Floats:
    return np.asarray(row["numbers"], np.float64).reshape(shape)
