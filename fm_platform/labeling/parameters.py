"""A fitted label model: its parameters, and what they make of votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from fm_platform.labeling.calibration import tempered
from fm_platform.labeling.partial import NO_SETS, ClassSets, check
from fm_platform.labeling.patterns import Floats, Votes
from fm_platform.labeling.units import Groups, Packed, Unit, pack

Kind = Literal["em_one_coin", "em_tied", "em_confusion", "em_silence", "em_anchored"]
MAJORITY = "majority_vote"
TRIPLET = "triplet"
ONE_COIN: Kind = "em_one_coin"
TIED: Kind = "em_tied"
CONFUSION: Kind = "em_confusion"
SILENCE: Kind = "em_silence"
ANCHORED: Kind = "em_anchored"
GROUPED = "_grouped"
"""Ends the name of a method whose copies count once."""
_LEAST_PROBABILITY = 1e-12
_ROWS = 262_144  # rows looked at together: bounds the memory of a prediction


def majority_vote(
    votes: Votes, n_classes: int, prior: Floats | None = None, sets: ClassSets = NO_SETS
) -> Floats:
    """Return vote shares float64[n, k]; a vote for a set is shared among its classes.

    Args:
        votes: int8[n, m].
        n_classes: k.
        prior: What rows without a vote get; the mean of the other rows without it.
        sets: What votes below -1 mean.

    Example:
        >>> majority_vote(np.array([[0, 0, 1]], np.int8), 2).round(2).tolist()
        [[0.67, 0.33]]
    """
    counts = np.stack([(votes == label).sum(axis=1) for label in range(n_classes)], axis=1)
    counts = counts.astype(np.float64)
    for number, members in enumerate(sets.sets):
        named = (votes == -2 - number).sum(axis=1)
        counts[:, list(members)] += named[:, None] / len(members)
    totals = counts.sum(axis=1, keepdims=True)
    shares: Floats = counts / np.where(totals > 0, totals, 1)
    labeled = totals[:, 0] > 0
    if prior is None:
        some = labeled.any()
        prior = shares[labeled].mean(axis=0) if some else np.full(n_classes, 1 / n_classes)
    shares[~labeled] = prior
    return shares


@dataclass(frozen=True)
class LabelModel:
    """A fitted label model: everything that turns votes into probabilities.

    Attributes:
        method: `majority_vote`, or how the parameters were found.
        prior: float64[k], class shares; what a row without a vote gets.
        emissions: For each function float64[states, v]: how often it says each of k classes, and
            with silence as the last column nothing. The states are the classes, or for a member
            of a group what the group's source says. Rows sum to 1. Empty for majority vote.
        groups: Functions that copy one hidden source.
        links: For each group float64[k, states], what the source says of each class.
        silence: Whether an abstention is an answer; otherwise emissions are given a vote.
        temperature: Exponent of the posterior; below 1 the votes are trusted less.
        rows: How many rows the fit saw.
        seen: For each function float64[states], the votes behind each row of its emissions.
    """

    method: str
    prior: Floats
    emissions: tuple[Floats, ...] = ()
    groups: Groups = ()
    links: tuple[Floats, ...] = ()
    silence: bool = False
    temperature: float = 1.0
    rows: float = 0.0
    seen: tuple[Floats, ...] = ()

    def predict(self, votes: Votes, sets: ClassSets = NO_SETS) -> Floats:
        """Return posteriors float64[n, k]; without a vote they are the prior.

        Args:
            votes: int8[n, m].
            sets: What votes below -1 mean; any sets, also those that the fit never saw.

        Raises:
            ValueError: If a vote is no class and no set.
        """
        k = len(self.prior)
        check(votes, k, sets)
        if self.method == MAJORITY:
            return tempered(majority_vote(votes, k, self.prior, sets), self.temperature)
        told = [
            self.posterior(pack(votes[start : start + _ROWS], None, k, self.groups, sets))
            for start in range(0, max(len(votes), 1), _ROWS)
        ]
        return np.concatenate(told)

    def posterior(self, packed: Packed) -> Floats:
        """Return posteriors float64[p, k] of votes packed by the groups of this model."""
        scores = log_odds(self, packed)
        if self.temperature != 1.0:
            scores *= self.temperature
        return np.ascontiguousarray(normalized(scores).T)

    def conditional(self, function: int) -> Floats:
        """Return float64[k, v]: how often a function says what on rows of each class."""
        for group, link in zip(self.groups, self.links, strict=True):
            if function in group:
                through: Floats = link @ self.emissions[function]
                return through
        return self.emissions[function]

    def to_json(self) -> dict[str, Any]:
        """Return exact JSON: Python writes the shortest text that reads back equal."""
        return {
            "method": self.method,
            "prior": self.prior.tolist(),
            "emissions": [emission.tolist() for emission in self.emissions],
            "groups": [list(group) for group in self.groups],
            "links": [link.tolist() for link in self.links],
            "silence": self.silence,
            "temperature": self.temperature,
            "rows": self.rows,
            "seen": [counts.tolist() for counts in self.seen],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelModel:
        """Return what `to_json` wrote."""
        return cls(
            value["method"],
            np.array(value["prior"], np.float64),
            tuple(np.array(emission, np.float64) for emission in value["emissions"]),
            tuple(tuple(group) for group in value["groups"]),
            tuple(np.array(link, np.float64) for link in value["links"]),
            value["silence"],
            value["temperature"],
            value["rows"],
            tuple(np.array(counts, np.float64) for counts in value["seen"]),
        )


@lru_cache(maxsize=64)
def symbol_table(n_classes: int, sets: ClassSets, silence: bool) -> Floats:
    """Return float64[v, digits], not to be written to: which emissions make up each possible vote.

    The digits are the votes in ascending order: sets from the last, an abstention, the classes.
    """
    classes = sets.symbols(n_classes).astype(np.float64)
    table = np.concatenate(
        [classes[n_classes:][::-1], np.zeros((1, n_classes)), classes[:n_classes]]
    ).T
    if silence:
        quiet = np.zeros((1, table.shape[1]))
        quiet[0, len(sets.sets)] = 1.0
        table = np.concatenate([table, quiet])
    table.setflags(write=False)
    return table


def member_scores(emissions: Floats, unit: Unit, symbols: Floats) -> Floats:
    """Return float64[s, states]: what the members of a unit say, for each state.

    Args:
        emissions: float64[members, states, v].
        unit: The unit.
        symbols: See `symbol_table`.
    """
    scores = np.log(np.maximum(emissions @ symbols, _LEAST_PROBABILITY))
    silent = -1 - unit.first
    if not symbols[:, silent].any():  # an abstention tells nothing
        scores[:, :, silent] = 0.0
    total: Floats = unit.hot @ scores.transpose(0, 2, 1).reshape(-1, scores.shape[1])
    return total


def by_unit(model: LabelModel, packed: Packed) -> list[Floats]:
    """Return for each unit float64[members, states, v], the emissions of its members."""
    return [np.stack([model.emissions[one] for one in unit.members]) for unit in packed.units]


class Tables(NamedTuple):
    """What the patterns of each unit tell.

    Attributes:
        classes: float64[s, k], the log likelihood given the class.
        states: Of a group float64[s, states], the likelihood given what its source says, up to a
            factor of each pattern; empty for functions that are alone.
    """

    classes: list[Floats]
    states: list[Floats]


def log_tables(
    model: LabelModel, packed: Packed, emissions: Sequence[Floats] | None = None
) -> Tables:
    """Return what the patterns tell; `emissions` as of `by_unit`, which it is not to find again."""
    symbols = symbol_table(packed.n_classes, packed.sets, model.silence)
    tables = Tables([], [])
    for unit, own in zip(packed.units, emissions or by_unit(model, packed), strict=True):
        scores, likelihood = member_scores(own, unit, symbols), np.zeros((0, 0))
        if unit.joint:
            link = model.links[model.groups.index(unit.members)]
            most = scores.max(axis=1, keepdims=True, initial=-np.inf)
            likelihood = np.exp(scores - most)
            scores = np.log(np.maximum(likelihood @ link.T, 1e-300)) + most
        tables.classes.append(scores)
        tables.states.append(likelihood)
    return tables


def log_odds(model: LabelModel, packed: Packed, tables: Tables | None = None) -> Floats:
    """Return float64[k, p], log prior + log likelihood of each row, less that of class 0."""
    told = (tables or log_tables(model, packed)).classes
    prior = np.log(np.maximum(model.prior, _LEAST_PROBABILITY))
    scores = np.zeros((packed.n_classes, len(packed.weights)))
    for label in range(1, packed.n_classes):
        scores[label] = prior[label] - prior[0]
        for unit, table in zip(packed.units, told, strict=True):
            scores[label] += np.take(table[:, label] - table[:, 0], unit.index)
    return scores


def normalized(scores: Floats) -> Floats:
    """Return float64[k, p], the soft-max over classes; may overwrite `scores`."""
    if len(scores) == 2:
        shares = np.empty_like(scores)
        first = np.subtract(scores[1], scores[0], out=shares[0])
        np.minimum(np.maximum(first, -700, out=first), 700, out=first)
        np.exp(first, out=first)
        first += 1.0
        np.divide(1.0, first, out=first)
        np.subtract(1.0, first, out=shares[1])
        return shares
    scores -= scores.max(axis=0, initial=-np.inf)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores


def log_likelihood(model: LabelModel, packed: Packed) -> float:
    """Return the log likelihood of the votes, in nats.

    Without silence it is that of the votes given where there are votes; `coverage_likelihood`
    is what is missing to compare it with a model that has silence.
    """
    tables = log_tables(model, packed)
    base = np.log(max(float(model.prior[0]), _LEAST_PROBABILITY)) * packed.weights.sum()
    for table, total in zip(tables.classes, packed.totals, strict=True):
        base += float(total @ table[:, 0])
    scores = log_odds(model, packed, tables)
    most = scores.max(axis=0, initial=-np.inf)
    inside = np.log(np.exp(scores - most).sum(axis=0)) + most
    return float(base + packed.weights @ inside)
