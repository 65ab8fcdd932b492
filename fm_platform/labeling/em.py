"""Label models fitted by EM: one-coin, full confusion, with silence, and with groups of copies.

Dawid & Skene 1979, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
Algorithm", with a learned class prior, smoothing, votes for sets of classes, and two additions:

* Functions that copy one another are a group with a hidden source: class -> what the source says
  -> what each member says. A group whose members are independent after all comes out as such, and
  exact copies count once.
* With `silence` an abstention is an answer like any other; without it tells nothing.
* Anchored, votes mean what they say until other votes speak against it (`anchors`): for functions
  that know one class each, whose votes alone do not tell which class is which.

A vote for a set of classes is what the function would have said, known only to lie in the set.
An EM step costs as many look-ups a pattern as there are units (`units`), not functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.anchors import Anchors, anchors_of
from fm_platform.labeling.parameters import (
    ANCHORED,
    GROUPED,
    MAJORITY,
    ONE_COIN,
    SILENCE,
    TIED,
    Kind,
    LabelModel,
    Tables,
    by_unit,
    log_odds,
    log_tables,
    majority_vote,
    normalized,
    symbol_table,
)
from fm_platform.labeling.partial import NO_SETS, ClassSets
from fm_platform.labeling.patterns import Floats, Ints, Votes, unique_patterns
from fm_platform.labeling.units import Groups, Packed, Unit, pack
from fm_platform.labeling.warm_start import adapted

PRIOR_COUNTS = 2.0
"""Pseudo-counts (times `smoothing`) by which a function is right until its votes say otherwise."""
_OTHER_COUNTS = 0.5
_LEAST_ACCURACY = 1e-3
_LEAST_VOICE = 1e-3
_NEAR = 1e-2
"""EM jumps ahead once the posteriors move by less: it has chosen where to go by then."""
_LONGEST = 8.0  # jump, in steps
_SHARPNESS = 4.0  # of the first guess what a group's source says: its majority, nearly certain


@dataclass(frozen=True)
class Settings:
    """How EM runs.

    Attributes:
        max_iterations: At most so many steps.
        smoothing: Pseudo-counts of each cell; the diagonal gets more (`PRIOR_COUNTS`).
        tolerance: Stop when the posteriors move by less, on average over the rows. Parameters
            that hardly any row depends on may go on for hundreds of steps that nobody would see.
        carry: Share of the start model's evidence that counts as if seen today.
    """

    max_iterations: int = 100
    smoothing: float = 1.0
    tolerance: float = 5e-5
    carry: float = 0.0


@dataclass(frozen=True)
class Known:
    """Rows of which people told the class.

    Attributes:
        rows: int64[g], positions among the packed votes.
        allowed: bool[g, k], the classes left open; one for a plain label.
    """

    rows: Ints
    allowed: npt.NDArray[np.bool_]

    def clamp(self, posterior: Floats) -> None:
        """Let the posteriors float64[k, p] of these rows say what is known."""
        kept = posterior[:, self.rows] * self.allowed.T
        total = kept.sum(axis=0)
        even = self.allowed.T / self.allowed.sum(axis=1)
        posterior[:, self.rows] = np.where(total > 0, kept / np.where(total > 0, total, 1), even)


def fit_majority(
    patterns: Votes, weights: Floats | Ints, n_classes: int, sets: ClassSets = NO_SETS
) -> LabelModel:
    """Return majority vote with the mean vote shares as the prior.

    Args:
        patterns: int8[p, m].
        weights: [p], rows of each pattern.
        n_classes: k.
        sets: What votes below -1 mean.
    """
    voted = (patterns != -1).any(axis=1)
    counts = np.asarray(weights, np.float64)[voted]
    if len(counts):
        shares = majority_vote(patterns[voted], n_classes, sets=sets)
        prior = np.average(shares, axis=0, weights=counts)
    else:
        prior = np.full(n_classes, 1 / n_classes)
    return LabelModel(MAJORITY, prior, rows=float(np.sum(weights)))


def fit_em(
    votes: Votes,
    n_classes: int,
    *,
    kind: Kind = ONE_COIN,
    groups: Groups = (),
    sets: ClassSets = NO_SETS,
    settings: Settings | None = None,
) -> LabelModel:
    """Fit by EM on the unique vote patterns, starting from the majority of the units.

    Args:
        votes: int8[n, m].
        n_classes: k.
        kind: `em_one_coin` learns one accuracy per function, `em_confusion` what it says of each
            class when it votes, `em_tied` one such matrix for all functions (raters that are not
            told apart), `em_silence` also how often each votes on each class, `em_anchored` the
            same where votes mean what they say until others speak against it.
        groups: Functions that copy one another.
        sets: What votes below -1 mean.
        settings: How EM runs.
    """
    patterns, _, counts = unique_patterns(votes, n_classes, sets)
    return run_em(pack(patterns, counts, n_classes, groups, sets), kind, settings or Settings())


def run_em(
    packed: Packed,
    kind: Kind,
    settings: Settings,
    *,
    start: LabelModel | None = None,
    known: Known | None = None,
) -> LabelModel:
    """Fit by EM on packed votes.

    Args:
        packed: The votes; its joint units are the groups.
        kind: As for `fit_em`.
        settings: How EM runs.
        start: Where to start: a model of the same functions; majority without it.
        known: Rows of which the class is known.
    """
    silence = kind in (SILENCE, ANCHORED)
    anchors = anchors_of(packed, unit_majority(packed)) if kind == ANCHORED else None
    begun = None
    if start is not None and start.method != MAJORITY:
        begun = adapted(start, packed, silence)
    before = begun if settings.carry > 0 else None
    if begun is None:
        at, posterior = None, unit_majority(packed)
    else:
        at, posterior = _expect(begun, by_unit(begun, packed), packed)
    found = begun
    before_that: Floats | None = None
    trail: list[_At] = []  # steps since the last jump
    for _ in range(settings.max_iterations):
        if known is not None:
            known.clamp(posterior)
        moved = 1.0 if before_that is None else _moved(before_that, posterior, packed.weights)
        if trail and moved < settings.tolerance:
            break
        found, emissions = _maximize(packed, posterior, at, kind, settings, before, anchors)
        before_that = posterior
        at, posterior = _expect(found, emissions, packed)
        trail = [*trail, at] if moved < _NEAR else [at]
        if len(trail) == 3:
            at, posterior = _expect(*_ahead(trail), packed)
            trail = []
    if found is None:  # no iteration asked for
        return _maximize(packed, posterior, None, kind, settings, None, anchors)[0]
    return found


def _moved(before: Floats, after: Floats, weights: Floats) -> float:
    """Return by how much posteriors float64[k, p] moved, on average over rows: 0 to 1."""
    moved = sum(float(np.abs(b - a) @ weights) for b, a in zip(before[1:], after[1:], strict=True))
    return moved / max(float(weights.sum()), 1e-12)


def _ahead(trail: Sequence[_At]) -> tuple[LabelModel, list[Floats]]:
    """Return where three steps of EM lead, and the emissions by unit.

    Varadhan & Roland 2008, "Simple and Globally Convergent Methods for Accelerating the
    Convergence of Any EM Algorithm", scheme S3. A step is bounded, and never shorter than EM's.
    """
    points = [[at.model.prior, *at.emissions, *at.model.links] for at in trail]
    steps = [[b - a for a, b in zip(one, two, strict=True)] for one, two in pairwise(points)]
    bends = [b - a for a, b in zip(*steps, strict=True)]
    far = np.sqrt(sum(float((step**2).sum()) for step in steps[0]))
    bent = np.sqrt(sum(float((bend**2).sum()) for bend in bends))
    length = min(max(far / max(bent, 1e-300), 1.0), _LONGEST)
    found = []
    for start, step, bend in zip(points[0], steps[0], bends, strict=True):
        there = np.maximum(start + 2 * length * step + length**2 * bend, _LEAST_VOICE * start)
        found.append(there / there.sum(axis=-1, keepdims=True))
    last, n = trail[-1], len(trail[-1].emissions)
    emissions = found[1 : 1 + n]
    model = replace(last.model, prior=found[0], links=tuple(found[1 + n :]))
    return model, emissions


class _At(NamedTuple):
    """Where EM stands: a model, its emissions by unit, and what the patterns tell by it."""

    model: LabelModel
    emissions: list[Floats]
    tables: Tables


def _expect(model: LabelModel, emissions: list[Floats], packed: Packed) -> tuple[_At, Floats]:
    """Return where EM stands, and posteriors float64[k, p]."""
    tables = log_tables(model, packed, emissions)
    return _At(model, emissions, tables), normalized(log_odds(model, packed, tables))


def unit_majority(packed: Packed) -> Floats:
    """Return float64[k, p], vote shares in which a group has one voice; a tie in it abstains."""
    k, sets = packed.n_classes, packed.sets
    total = np.zeros((k, len(packed.weights)))
    for unit in packed.units:
        shared = symbol_table(k, sets, False)
        counts = unit.hot @ np.tile((shared / np.maximum(shared.sum(axis=0), 1)).T,
                                    (len(unit.members), 1))  # fmt: skip
        if unit.joint:
            best = counts == counts.max(axis=1, keepdims=True)
            clear = best & (best.sum(axis=1, keepdims=True) == 1) & (counts > 0)
            counts = clear.astype(np.float64)
        for label in range(k):
            total[label] += counts[unit.index, label]
    voices = total.sum(axis=0)
    silent = voices == 0
    shares: Floats = total / np.where(silent, 1, voices)
    if silent.any():
        mass = shares @ packed.weights
        prior = mass / mass.sum() if mass.sum() > 0 else np.full(k, 1 / k)
        shares[:, silent] = prior[:, None]
    return shares


def _maximize(
    packed: Packed,
    posterior: Floats,
    at: _At | None,
    kind: Kind,
    settings: Settings,
    before: LabelModel | None,
    anchors: Anchors | None,
) -> tuple[LabelModel, list[Floats]]:
    """Return the parameters that make the votes likeliest, given posteriors float64[k, p].

    And the emissions once more, by unit.
    """
    k, silence, smoothing = packed.n_classes, kind in (SILENCE, ANCHORED), settings.smoothing
    weighted = [posterior[label] * packed.weights for label in range(1, k)]
    rest = np.array([column.sum() for column in weighted])
    rows = float(packed.weights.sum())
    counts = np.concatenate([[rows - rest.sum()], rest])
    if before is not None:
        counts = counts + settings.carry * before.rows * before.prior
    if anchors is not None:
        counts = counts + anchors.prior
    prior = _shares(counts + smoothing)
    emissions: list[Floats] = [np.zeros(0)] * packed.n_functions
    seen: list[Floats] = [np.zeros(0)] * packed.n_functions
    links: list[Floats] = []
    units: list[Floats] = []
    symbols = symbol_table(k, packed.sets, silence)
    pooled = np.zeros((k, k + silence))
    for number, (unit, total) in enumerate(zip(packed.units, packed.totals, strict=True)):
        mass = np.empty((len(unit.table), k))
        for label, column in enumerate(weighted, 1):
            mass[:, label] = np.bincount(unit.index, weights=column, minlength=len(unit.table))
        mass[:, 0] = np.maximum(total - mass[:, 1:].sum(axis=1), 0.0)
        if unit.joint:
            source = _source(packed, number, at, symbols)
            joint = mass[:, :, None] * source
            linked = joint.sum(axis=0) + (0.0 if anchors is None else anchors.units[number][0])
            links.append(_emission(linked, kind, smoothing))
            mass = joint.sum(axis=1)
        cells = _cells(unit, mass, None if at is None else at.emissions[number], symbols)
        if before is not None:
            cells += settings.carry * np.stack(
                [before.seen[f][:, None] * before.emissions[f] for f in unit.members]
            )
        counted = cells.sum(axis=2)
        if anchors is not None and not unit.joint:
            cells += anchors.units[number]
        found = _emission(cells, kind, smoothing)
        units.append(found)
        for position, function in enumerate(unit.members):
            emissions[function], seen[function] = found[position], counted[position]
        if not unit.joint:
            pooled += cells.sum(axis=0)
    if kind == TIED and not links:
        tied = _emission(pooled, kind, smoothing)
        emissions = [tied] * packed.n_functions
        units = [np.stack([tied] * len(unit.members)) for unit in packed.units]
    groups = tuple(unit.members for unit in packed.units if unit.joint)
    method = f"{kind}{GROUPED}" if groups else kind
    carried = 0.0 if before is None else settings.carry * before.rows
    model = LabelModel(
        method, prior, tuple(emissions), groups, tuple(links), silence, 1.0, rows + carried,
        tuple(seen),
    )  # fmt: skip
    return model, units


def _source(packed: Packed, number: int, at: _At | None, symbols: Floats) -> Floats:
    """Return float64[s, k, states]: what a group's source says, given its votes and the class."""
    k, unit = packed.n_classes, packed.units[number]
    if at is None:
        shared = symbols / np.maximum(symbols.sum(axis=0), 1)
        counts = unit.hot @ np.tile(shared.T, (len(unit.members), 1))
        sharp = (counts + _LEAST_VOICE) ** _SHARPNESS
        guess = sharp / sharp.sum(axis=1, keepdims=True)
        return np.repeat(guess[:, None, :], k, axis=1)
    likelihood = at.tables.states[number]
    link = at.model.links[at.model.groups.index(unit.members)]
    joint = likelihood[:, None, :] * link[None]
    told: Floats = joint / np.maximum(joint.sum(axis=2, keepdims=True), 1e-300)
    return told


def _cells(unit: Unit, mass: Floats, previous: Floats | None, symbols: Floats) -> Floats:
    """Return float64[members, states, v]: the mass of each state behind each emission."""
    states = mass.shape[1]
    counted = (unit.hot.T @ mass).reshape(len(unit.members), -1, states).transpose(0, 2, 1)
    if unit.first == -1:
        plain: Floats = counted @ symbols.T
        return plain
    # a vote for a set is divided among its classes by what the function says otherwise
    told = np.ones((len(unit.members), states, len(symbols)))
    if previous is not None:
        told = previous
    reach = np.maximum(told @ symbols, 1e-300)
    divided: Floats = told * ((counted / reach) @ symbols.T)
    return divided


def _emission(cells: Floats, kind: Kind, smoothing: float) -> Floats:
    """Return rows that sum to 1, float64[..., states, v], from the mass behind each cell."""
    states, answers = cells.shape[-2:]
    diagonal = _diagonal(states, answers)
    if kind == ONE_COIN:
        right = (cells * diagonal).sum(axis=(-2, -1)) + smoothing * PRIOR_COUNTS
        total = cells.sum(axis=(-2, -1)) + smoothing * (PRIOR_COUNTS + 1)
        accuracy = np.where(total > 0, right / np.where(total > 0, total, 1), 1 / answers)
        accuracy = np.minimum(np.maximum(accuracy, _LEAST_ACCURACY), 1 - _LEAST_ACCURACY)
        each = accuracy[..., None, None]
        coin: Floats = (1 - each) / (answers - 1) * (1 - diagonal) + each * diagonal
        return coin
    return _shares(cells + smoothing * (_OTHER_COUNTS + PRIOR_COUNTS * diagonal))


@lru_cache(maxsize=32)
def _diagonal(states: int, answers: int) -> Floats:
    diagonal: Floats = np.eye(states, answers)
    diagonal.setflags(write=False)
    return diagonal


def _shares(cells: Floats) -> Floats:
    total = cells.sum(axis=-1, keepdims=True)
    found: Floats = np.where(total > 0, cells / np.where(total > 0, total, 1), 1 / cells.shape[-1])
    return found
