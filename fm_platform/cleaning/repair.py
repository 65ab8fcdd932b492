"""Which value a metadata column should have: what a window of rows says, with a probability.

Rekatsinas, Chu, Ilyas, Re 2017, "HoloClean: Holistic Data Repairs with Probabilistic Inference":
declared constraints say which cells are in doubt, and statistics of the other rows weigh the
values that the column has elsewhere. Here the weights are those of naive Bayes over the declared
evidence, and a dependency is a vote of the rows that share its left side, each wrong with the
declared error rate. The probabilities are put right on cells that are not in doubt: each is
predicted as if it were missing, and one temperature is chosen under which they are likeliest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_TEMPERATURES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5)
_CHECKED = 500
_SMOOTHING = 0.5


@dataclass(frozen=True)
class Proposal:
    """Another value for a cell.

    Attributes:
        before, after: The values; before is None where it is missing.
        probability: Of the value after.
        doubt: Why the cell is in doubt.
        outside: Whether the value before cannot be right by itself, whatever is right.
    """

    before: Any
    after: Any
    probability: float
    doubt: str
    outside: bool = False


class ColumnModel:
    """The values of one column, learned from the cells that are not in doubt.

    Args:
        column: Its name.
        rule: What is declared (`spec.cleaning.MetadataRepairRule`).
        values: Column -> n values of the window; None is missing.
    """

    def __init__(self, column: str, rule: Any, values: Mapping[str, Sequence[Any]]) -> None:
        self.column, self.rule, self.values = column, rule, values
        self.declared = rule.columns[column]
        self.dependencies = [d for d in rule.dependencies if d.column == column]
        given = {name for d in self.dependencies for name in d.given}
        self.evidence = [name for name in rule.read if name != column and name not in given]
        cells = values[column]
        self.sound = [i for i in range(len(cells)) if self.broken(cells[i]) is None]
        common = Counter(cells[i] for i in self.sound)
        ranked = sorted(common, key=lambda value: (-common[value], str(value)))
        self.domain: list[Any] = ranked[: rule.max_values]
        place = {value: k for k, value in enumerate(self.domain)}
        self.counts = np.zeros(len(self.domain))
        self.beside: dict[str, dict[Hashable, Floats]] = {}
        for i in self.sound:
            if cells[i] in place:
                self.counts[place[cells[i]]] += 1
        for name in self.evidence:
            self.beside[name] = self._table((values[name],), place)
        self.groups = [self._table([values[n] for n in d.given], place) for d in self.dependencies]
        self.temperature = self._temperature(place)

    def broken(self, value: Any) -> str | None:
        """Return why a value cannot be right by itself, or None."""
        said = self.declared
        if value is None:
            return "it is missing" if said.missing else None
        if said.allowed is not None and value not in said.allowed:
            return f"{value!r} is not in its domain"
        if said.minimum is not None and value < said.minimum:
            return f"{value!r} lies below {said.minimum:g}"
        if said.maximum is not None and value > said.maximum:
            return f"{value!r} lies above {said.maximum:g}"
        return None

    def propose(self, row: int) -> Proposal | None:
        """Return another value for a cell that is in doubt; None where there is none."""
        if not self.domain or (self.values[self.column][row] is None and not self.declared.missing):
            return None
        before = self.values[self.column][row]
        broken = self.broken(before)
        doubt = broken or self._contradicted(row)
        if doubt is None:
            return None
        told = _softmax(self._scores(row, None) * self.temperature)
        best = int(told.argmax())
        if self.domain[best] == before:
            return None
        outside = broken is not None and before is not None
        return Proposal(before, self.domain[best], float(told[best]), doubt, outside)

    def _contradicted(self, row: int) -> str | None:
        before = self.values[self.column][row]
        for dependency, groups in zip(self.dependencies, self.groups, strict=True):
            key = self._key([self.values[name] for name in dependency.given], row)
            votes = groups.get(key) if key is not None else None
            if votes is None:
                continue
            most = int(votes.argmax())
            if self.domain[most] != before and votes[most] >= 2:
                return (
                    f"{int(votes[most])} of {int(votes.sum())} rows with the same "
                    f"{', '.join(dependency.given)} have another value"
                )
        return None

    def _scores(self, row: int, own: int | None) -> Floats:
        """Return log scores of the domain; with `own` as if that value of the row were missing."""
        counts = self.counts.copy()
        if own is not None:
            counts[own] -= 1
        k = len(self.domain)
        scores: Floats = np.log(counts + _SMOOTHING)
        for name in self.evidence:
            value = self.values[name][row]
            table = self.beside[name]
            seen = table.get((value,))
            if value is None or seen is None:
                continue
            joint = seen.copy()
            if own is not None:
                joint[own] -= 1
            kinds = len(table)
            scores += np.log((joint + _SMOOTHING) / (counts + _SMOOTHING * kinds))
        odds = np.log((1 - self.rule.error_rate) * max(k - 1, 1) / self.rule.error_rate)
        for dependency, groups in zip(self.dependencies, self.groups, strict=True):
            key = self._key([self.values[name] for name in dependency.given], row)
            votes = groups.get(key) if key is not None else None
            if votes is not None:
                told = votes.copy()
                if own is not None:
                    told[own] -= 1
                scores += odds * told
        return scores

    def _temperature(self, place: Mapping[Any, int]) -> float:
        """Return the exponent under which sound cells, each as if missing, are likeliest."""
        known = [i for i in self.sound if self.values[self.column][i] in place]
        step = max(1, len(known) // _CHECKED)
        chosen = known[::step][:_CHECKED]
        if len(chosen) < 20 or len(self.domain) < 2:
            return 1.0
        own = [place[self.values[self.column][i]] for i in chosen]
        scores = np.stack([self._scores(i, k) for i, k in zip(chosen, own, strict=True)])
        rows = np.arange(len(chosen))
        likely = []
        for temperature in _TEMPERATURES:
            told = _softmax(scores * temperature)[rows, own]
            # a few wrong cells among the sound ones must not decide
            likely.append(float(np.log(0.99 * told + 0.01 / len(self.domain)).sum()))
        return _TEMPERATURES[int(np.argmax(likely))]

    def _table(
        self, columns: Sequence[Sequence[Any]], place: Mapping[Any, int]
    ) -> dict[Hashable, Floats]:
        found: dict[Hashable, Floats] = defaultdict(lambda: np.zeros(len(self.domain)))
        for i in self.sound:
            key, value = self._key(columns, i), self.values[self.column][i]
            if key is not None and value in place:
                found[key][place[value]] += 1
        return dict(found)

    @staticmethod
    def _key(columns: Sequence[Sequence[Any]], row: int) -> Hashable | None:
        key = tuple(column[row] for column in columns)
        return None if any(value is None for value in key) else key


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
