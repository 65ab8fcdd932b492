"""Partial votes: "A1 or A2". The one place that knows how a set of classes is written down.

A vote is one int8. From 0 it is a class, -1 abstains, and -2 and below is a set of classes: -2 the
first set of a `ClassSets`, -3 the second, and so on. Who looks only for classes (`vote >= 0`) takes
a set for an abstention and is never wrong, only less informed.

* A labeling function answers a class name, None, or a list, tuple or set of class names.
* A column of votes that holds a set has a third column `classes` with the members, so it can be
  read by itself; a column without sets is as it always was.
* A matrix of votes comes with one `ClassSets` for all of its columns (`unite`).
* A day of `weak_labels` has the members in its metrics, under `class_sets`.

A single class is no set, and the set of all classes says nothing: it is an abstention. Sets are
sorted, so the same votes have the same bytes however they came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import LabelingError

ABSTAIN = -1
FIRST_SET = -2
MOST_SETS = 127
"""int8 has no more numbers below -1."""

ClassSet = tuple[int, ...]
Votes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassSets:
    """The sets of classes that some votes mean, by number: `sets[0]` is -2, `sets[1]` is -3.

    Attributes:
        sets: Different, each sorted, two or more classes; shorter ones first, then by member.

    Example:
        >>> book = ClassSets.of([(2, 0), (1, 0)])
        >>> book.sets, book.code((2, 0)), book.members(-3)
        (((0, 1), (0, 2)), -3, (0, 2))
    """

    sets: tuple[ClassSet, ...] = ()

    @classmethod
    def of(cls, sets: Iterable[Iterable[int]]) -> ClassSets:
        """Return the book of these sets; single classes and repetitions do not count.

        Raises:
            LabelingError: If there are more than 127 different ones.
        """
        different = {tuple(sorted({int(member) for member in one})) for one in sets}
        found = sorted((one for one in different if len(one) > 1), key=lambda s: (len(s), s))
        if len(found) > MOST_SETS:
            raise LabelingError(
                "too many different sets of classes in the votes of one project",
                expected=f"{MOST_SETS} at most",
                found=len(found),
                next_step="let functions abstain where they can name no small set of classes",
            )
        return cls(tuple(found))

    def code(self, classes: Iterable[int]) -> int:
        """Return the vote that means these classes; none abstains, one is that class.

        Raises:
            KeyError: If the set is not in the book.
        """
        wanted = tuple(sorted({int(member) for member in classes}))
        if len(wanted) < 2:
            return wanted[0] if wanted else ABSTAIN
        if wanted not in self.sets:
            raise KeyError(wanted)
        return FIRST_SET - self.sets.index(wanted)

    def members(self, vote: int) -> ClassSet:
        """Return the classes that a vote leaves open; () for an abstention, which says nothing."""
        if vote >= 0:
            return (int(vote),)
        return self.sets[FIRST_SET - vote] if vote <= FIRST_SET else ()

    def names(self, vote: int, classes: Sequence[str]) -> str | None:
        """Return a vote for people: `good`, `bad or good`, or None."""
        return " or ".join(classes[member] for member in self.members(vote)) or None

    def symbols(self, n_classes: int) -> Bools:
        """Return bool[k + sets, k]: what each class and then each set leaves open."""
        table = np.zeros((n_classes + len(self.sets), n_classes), np.bool_)
        table[:n_classes] = np.eye(n_classes, dtype=np.bool_)
        for number, one in enumerate(self.sets):
            table[n_classes + number, list(one)] = True
        return table

    def allowed(self, votes: Votes, n_classes: int) -> Bools:
        """Return bool[..., k]: the classes that votes leave open; all of them where one abstains.

        This is the mask over which a loss on partial labels sums.

        Raises:
            ValueError: If a vote is neither a class nor a set of the book.
        """
        table = np.concatenate(
            [self.symbols(n_classes)[n_classes:][::-1], np.ones((1, n_classes), np.bool_),
             np.eye(n_classes, dtype=np.bool_)]
        )  # fmt: skip
        check(votes, n_classes, self)
        found: Bools = table[votes.astype(np.int64) + len(self.sets) + 1]
        return found

    def to_json(self) -> list[list[int]]:
        """Return the members of each set."""
        return [list(one) for one in self.sets]


NO_SETS = ClassSets()


def check(votes: Votes, n_classes: int, sets: ClassSets = NO_SETS) -> None:
    """Refuse votes that are neither classes nor sets of the book.

    Raises:
        ValueError: If there is one.
    """
    least = ABSTAIN - len(sets.sets)
    if votes.size and not (votes.min() >= least and votes.max() < n_classes):
        raise ValueError(f"votes must lie between {least} and {n_classes - 1}")


def encode(answers: Sequence[int | Sequence[int]], n_classes: int) -> tuple[Votes, ClassSets]:
    """Return answers as votes.

    Args:
        answers: A class index, -1, or some class indices each. All classes are an abstention.
        n_classes: k.

    Example:
        >>> votes, sets = encode([1, -1, (0, 2), (0, 1, 2)], 3)
        >>> votes.tolist(), sets.sets
        ([1, -1, -2, -1], ((0, 2),))
    """
    if all(type(answer) is int for answer in answers):  # nearly always: no set to look for
        return np.array(answers, np.int8).reshape(len(answers)), NO_SETS
    narrowed: list[int | ClassSet] = [
        answer if isinstance(answer, int) else _narrow(answer, n_classes) for answer in answers
    ]
    sets = ClassSets.of(one for one in narrowed if isinstance(one, tuple))
    codes = [one if isinstance(one, int) else sets.code(one) for one in narrowed]
    return np.array(codes, np.int8).reshape(len(codes)), sets


def renumber(votes: Votes, old: ClassSets, new: ClassSets) -> Votes:
    """Return the same votes by the numbers of another book, which must know their sets.

    Raises:
        KeyError: If it does not.
    """
    if old == new or not old.sets:
        return votes
    table = np.arange(-128, 128, dtype=np.int16)
    for number, one in enumerate(old.sets):
        vote = FIRST_SET - number
        if one in new.sets or (votes == vote).any():
            table[vote + 128] = new.code(one)
    moved: Votes = table[votes.astype(np.int16) + 128].astype(np.int8)
    return moved


def unite(columns: Sequence[tuple[Votes, ClassSets]]) -> tuple[list[Votes], ClassSets]:
    """Return columns of votes by the numbers of one book that knows all of their sets."""
    book = ClassSets.of(one for _, sets in columns for one in sets.sets)
    return [renumber(votes, sets, book) for votes, sets in columns], book


def to_table(row_ids: pa.ChunkedArray | pa.Array, votes: Votes, sets: ClassSets) -> pa.Table:
    """Return one column of votes as it is kept.

    Returns:
        row_id and vote int8; where a set occurs also classes list<int8>, null beside other votes.
    """
    used = ClassSets.of(sets.members(int(vote)) for vote in np.unique(votes[votes <= FIRST_SET]))
    votes = renumber(votes, sets, used)
    columns = {"row_id": row_ids, "vote": pa.array(votes, pa.int8())}
    if used.sets:
        members = pa.array([list(one) for one in used.sets], pa.list_(pa.int8()))
        # the number of the set, null (and so no members) for a class or an abstention
        number = pa.array(FIRST_SET - votes.astype(np.int64), mask=votes > FIRST_SET)
        columns["classes"] = members.take(number)
    return pa.table(columns)


def from_table(table: pa.Table) -> tuple[Votes, ClassSets]:
    """Return what `to_table` wrote."""
    votes = table["vote"].to_numpy().astype(np.int8, copy=False)
    if "classes" not in table.column_names:
        return votes, NO_SETS
    column = table["classes"].combine_chunks()
    # each vote once: the sets are few, the rows are many
    rows = [int(np.argmax(votes == vote)) for vote in np.unique(votes[votes <= FIRST_SET])]
    listed = pc.take(column, pa.array(rows, pa.int64())).to_pylist()
    return votes, ClassSets.of(listed)


def _narrow(answer: Sequence[int], n_classes: int) -> int | ClassSet:
    members = tuple(sorted(set(answer)))
    if len(members) == 1:
        return members[0]
    return ABSTAIN if len(members) in (0, n_classes) else members
