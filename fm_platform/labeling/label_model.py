"""Which label model a project uses: all candidates are fitted together, evidence chooses.

Votes come batch by batch (`LabelModelFitter`), are counted as patterns in bounded memory, and all
candidates are fitted on a sample of the patterns; the one in use is then fitted on all of them.
It is never silently worse than majority vote: where the evidence does not speak for another
model, overall or in a source, majority vote is used and the evidence says why.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fm_platform.labeling.candidates import Gold, Part, part_of
from fm_platform.labeling.fitted import POOLED
from fm_platform.labeling.fitted import LabelModelFit as LabelModelFit
from fm_platform.labeling.parameters import majority_vote as majority_vote
from fm_platform.labeling.partial import NO_SETS, ClassSets, renumber
from fm_platform.labeling.patterns import Ints, VoteCounter, Votes
from fm_platform.labeling.selection import Selection
from fm_platform.numerics import one_thread
from fm_platform.spec.models import LabelModelSpec

_LEAST_ROWS = 50


class LabelModelFitter:
    """Fits label models on votes that come batch by batch, e.g. day by day.

    Args:
        n_functions: m.
        n_classes: k.
        spec: Candidates and settings.

    Example:
        fitter = LabelModelFitter(len(functions), len(classes), spec.labeling.label_model)
        for votes, sources in days:
            fitter.add(votes, sources)
        fit = fitter.fit(gold)
    """

    def __init__(self, n_functions: int, n_classes: int, spec: LabelModelSpec) -> None:
        self.n_functions, self.n_classes, self.spec = n_functions, n_classes, spec
        self._counters = {POOLED: VoteCounter(n_functions, n_classes)}

    def add(self, votes: Votes, groups: Sequence[str], sets: ClassSets = NO_SETS) -> None:
        """Count some rows.

        Args:
            votes: int8[n, m].
            groups: n group names (sources).
            sets: What votes below -1 mean; other batches may have others.

        Raises:
            ValueError: If a vote is no class and no set.
        """
        self._counters[POOLED].add(votes, sets)
        if not self.spec.per_source:
            return
        names = np.array(groups, dtype=object)
        for name in sorted(set(names.tolist())):
            counter = self._counters.get(name)
            if counter is None:
                counter = self._counters[name] = VoteCounter(self.n_functions, self.n_classes)
            counter.add(votes[names == name], sets)

    def fit(self, gold: Gold | None = None, start: LabelModelFit | None = None) -> LabelModelFit:
        """Fit all candidates and choose.

        Args:
            gold: Dev gold rows.
            start: The fit of the day before. EM starts from it, and `LabelModelSpec.carry` of its
                evidence counts as if seen today.
        """
        book = self._counters[POOLED].sets
        if gold is None:
            gold = Gold(np.zeros((0, self.n_functions), np.int8), np.zeros(0, np.int8), ())
        known = ClassSets.of([*book.sets, *gold.sets.sets])
        gold = Gold(
            renumber(gold.votes, gold.sets, known), renumber(gold.labels, gold.sets, known),
            gold.groups, known,
        )  # fmt: skip
        parts: dict[str, Part] = {}
        for name, counter in sorted(self._counters.items()):
            if name == POOLED or counter.rows >= _LEAST_ROWS:
                patterns, weights = counter.patterns()
                patterns = renumber(patterns, counter.sets, known)
                parts[name] = part_of(name, patterns, weights, self.n_classes, known)
        with one_thread():
            return Selection(parts, gold, self.n_classes, self.spec, start).fit()


def fit_label_model(
    votes: Votes,
    groups: Sequence[str],
    dev_rows: Ints,
    dev_labels: Ints,
    n_classes: int,
    spec: LabelModelSpec,
    sets: ClassSets = NO_SETS,
) -> LabelModelFit:
    """Fit all candidates on votes at hand and choose.

    Args:
        votes: int8[n, m].
        groups: n group names (sources).
        dev_rows: Positions of the dev gold rows.
        dev_labels: Their classes; below -1 sets of classes.
        n_classes: k.
        spec: Candidates and settings.
        sets: What votes and labels below -1 mean.
    """
    fitter = LabelModelFitter(votes.shape[1], n_classes, spec)
    fitter.add(votes, groups, sets)
    names = [groups[int(row)] for row in dev_rows]
    return fitter.fit(Gold(votes[dev_rows], np.asarray(dev_labels, np.int8), names, sets))
