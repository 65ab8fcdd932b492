"""The choice between all label models, overall and in each source, and the evidence of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.calibration import calibrated, calibration_error
from fm_platform.labeling.candidates import (
    ANCHORED_METHODS,
    GOLD_SHARES,
    METHODS,
    Gold,
    Part,
    believed_accuracy,
    differing,
    fit_all,
    fit_with_gold,
    judge,
    kind_of,
    plain_name,
    refined,
    without_groups,
)
from fm_platform.labeling.choice import FEW_GOLD_ROWS, Verdict, compare
from fm_platform.labeling.dependence import NO_MISFIT, find_groups, misfit, sample_of
from fm_platform.labeling.em import Settings
from fm_platform.labeling.fitted import POOLED, LabelModelFit, predict_groups
from fm_platform.labeling.parameters import (
    ANCHORED,
    CONFUSION,
    MAJORITY,
    ONE_COIN,
    SILENCE,
    Kind,
    LabelModel,
)
from fm_platform.labeling.patterns import Floats, Ints
from fm_platform.labeling.plausible import believable, knowledge
from fm_platform.labeling.stacked import (
    STACKED,
    StackedSettings,
    fit_stacked,
    learnable,
    left_out,
)
from fm_platform.labeling.units import Groups
from fm_platform.spec.models import LabelModelSpec

_LEAST_GAIN = 2.0
"""Nats by which gold rows must be likelier under a model that has seen others: about p = 0.05."""
_LEAST_PROBABILITY = 1e-3
_FEW_ROWS = 5_000
_MOST_ROWS = 0.9  # on which a model must be believable
_MISFIT_OF_SILENCE = 0.01  # neutral on the data sets of benchmarks/label_settings.py


class Selection:
    """One fit of all candidates, and the choice between them.

    Args:
        parts: `*` and, where each source has a model of its own, the sources.
        gold: Dev gold rows.
        n_classes: k.
        spec: Candidates and settings.
        start: The fit of the day before.
    """

    def __init__(
        self,
        parts: dict[str, Part],
        gold: Gold,
        n_classes: int,
        spec: LabelModelSpec,
        start: LabelModelFit | None,
    ) -> None:
        self.parts, self.gold, self.n_classes, self.spec = parts, gold, n_classes, spec
        self.start = start
        self.settings = Settings(
            spec.max_iterations, spec.smoothing, spec.tolerance, spec.carry if start else 0.0
        )
        self.judged = [p for n, p in parts.items() if n != POOLED] or [parts[POOLED]]
        self.copies: Groups = ()
        self._judge_on(gold.single)
        self.told: dict[str, Floats] = {}

    def fit(self) -> LabelModelFit:
        """Fit, choose, and say why."""
        some, mostly = knowledge(self.parts[POOLED])
        if not mostly:
            self._fit_all(METHODS, (ONE_COIN, CONFUSION))
        if mostly or (some and not self._believable(self.judged[0].fit)):
            # silence tells something here, but a row without a vote is labeled by nobody
            self._judge_on(self.single[(self.gold.votes[self.single] != -1).any(axis=1)])
            for part in self.parts.values():
                part.compare_on_votes()
            self._fit_all(ANCHORED_METHODS, (ANCHORED,))
        fits = {
            method: sum(part.fit[method] for part in self.judged) for method in self.judged[0].fit
        }
        if self.start and self.start.fits:
            worst = min(self.start.fits.values())
            fits = {
                method: fit + self.settings.carry * self.start.fits.get(method, worst)
                for method, fit in fits.items()
            }
        self.fits = fits
        reference = self._reference(fits) if fits else self.methods[0]
        for method in self.judged[0].models:
            self.told[method] = self._says({n: p.models[method] for n, p in self.parts.items()})
        self.reference = reference
        for part in self.parts.values():
            judge(part, reference)
        if fits and self._wants_gold():
            for suffix in GOLD_SHARES:
                self._add_gold_model(reference, suffix)
            if some:
                self._believable(reference + suffix for suffix in GOLD_SHARES)
            self.reference = reference = self._likeliest(reference)
            for part in self.parts.values():
                judge(part, reference)
        if STACKED in self.spec.candidates and learnable(self.labels):
            self._add_stacked(reference)
        method, rival, verdict = self._overall(reference)
        kept = self._kept(method)
        return self._result(reference, method, rival, verdict, kept)

    def _fit_all(self, known: Mapping[str, Sequence[str]], kinds: Sequence[Kind]) -> None:
        """Fit the methods that the project asks for, as far as they are `known`."""
        asked = {method for key in self.spec.candidates for method in known.get(key, ())}
        ordered = dict.fromkeys(method for own in known.values() for method in own)
        self.methods = [method for method in ordered if method in asked] or [MAJORITY]
        pooled = self.parts[POOLED]
        self.copies = ()
        if "em_grouped" in self.spec.candidates:
            smaller = sample_of(pooled.patterns, pooled.weights, self.n_classes, pooled.sample.sets)
            self.copies = find_groups(smaller, kinds)
        if not self.copies:
            self.methods = without_groups(self.methods)
        for name, part in self.parts.items():
            part.models, part.fit = {}, {}
            before = self.start.likeliest.get(name) if self.start else None
            fit_all(part, self.methods, self.copies, self.settings, before)

    def _believable(self, methods: Iterable[str]) -> bool:
        """Drop models whose classes are not those of the functions; is one left?"""
        for method in list(methods):
            if self._by_rows([believable(part, method) for part in self.judged]) < _MOST_ROWS:
                self.told.pop(method, None)
                for part in self.parts.values():
                    del part.models[method]
                    part.fit.pop(method, None)
        return bool(self.judged[0].fit)

    def _judge_on(self, single: Ints) -> None:
        """Let these gold rows show which model is right."""
        gold, self.single = self.gold, single
        self.labels = gold.labels[single].astype(np.int64)
        self.dev = Gold(
            gold.votes[single], gold.labels[single], [gold.groups[i] for i in single], gold.sets
        )

    def _reference(self, fits: Mapping[str, float]) -> str:
        """Return the likeliest model.

        One that also explains who is silent must explain the votes about as well as the others do:
        where copies fall silent together, its hidden classes may be those of silence.
        """
        silent = [method for method in fits if kind_of(method) == SILENCE]
        if silent and len(silent) < len(fits):
            off = {
                method: self._by_rows([misfit(p.sample, p.models[method]) for p in self.judged])
                for method in fits
            }
            most = min(off[m] for m in fits if m not in silent) + _MISFIT_OF_SILENCE
            fits = {m: fit for m, fit in fits.items() if m not in silent or off[m] <= most}
        return max(fits, key=lambda method: fits[method])

    def _by_rows(self, values: Sequence[float]) -> float:
        """Return the mean of a value of each judged part, weighted by its rows."""
        return float(np.average(values, weights=[max(part.rows, 1.0) for part in self.judged]))

    def _says(self, models: Mapping[str, LabelModel]) -> Floats:
        return predict_groups(
            models, self.dev.votes, self.dev.groups, self.n_classes, self.dev.sets
        )

    def _wants_gold(self) -> bool:
        """Whether gold rows may tell more than the votes: these are few, or do not fit."""
        if not self.spec.gold_weight or len(self.gold.labels) < FEW_GOLD_ROWS:
            return False
        few = any(part.rows < _FEW_ROWS for part in self.judged)
        return few or self._gap(None) > 0 or max(p.misfit for p in self.judged) > NO_MISFIT

    def _add_gold_model(self, reference: str, suffix: str) -> None:
        """Fit the likeliest model on gold rows as well; its evidence is from other folds."""
        method = reference + suffix
        told = self.told[reference].copy()
        single = self.single
        for name, part in self.parts.items():
            own = self.gold if name == POOLED else self.gold.inside(name)
            part.models[method] = part.models[reference]
            if not len(own.labels):
                continue
            part.models[method], of_part = fit_with_gold(
                part, reference, suffix, own, self.settings
            )
            where = np.array([group == name for group in self.gold.groups], bool)
            if name == POOLED:  # serves the groups that have no model of their own
                where = np.array([group not in self.parts for group in self.gold.groups], bool)
                of_part = of_part[where]
            rows = np.flatnonzero(where)
            position = {int(row): i for i, row in enumerate(single)}
            for row, said in zip(rows.tolist(), of_part, strict=True):
                if row in position:
                    told[position[row]] = said
        self.told[method] = told

    def _add_stacked(self, reference: str) -> None:
        """Fit the stacked model on the gold rows; its evidence is from rows left out."""
        settings = StackedSettings(self.spec.per_source, POOLED, self.spec.inverse_regularization)
        votes, groups, sets = self.dev.votes, self.dev.groups, self.dev.sets
        models = fit_stacked(votes, groups, self.labels, self.n_classes, settings, sets)
        for name, part in self.parts.items():
            part.models[STACKED] = models.get(name, models[POOLED])
            part.predicted[STACKED] = believed_accuracy(part, reference, STACKED)
        self.told[STACKED] = left_out(votes, groups, self.labels, self.n_classes, settings, sets)

    def _likeliest(self, reference: str) -> str:
        """Return the model under which the gold rows are likeliest, each judged without itself."""
        rows = np.arange(len(self.labels))
        told = {
            method: float(np.log(np.maximum(says[rows, self.labels], _LEAST_PROBABILITY)).sum())
            for method, says in self.told.items()
            if method.startswith(reference)
        }
        best = max(told, key=lambda method: told[method])
        return best if told[best] > told[reference] + _LEAST_GAIN else reference

    def _gap(self, inside: npt.NDArray[np.bool_] | None) -> float:
        """Return by how much the reference is less, or more, often right than it says.

        So much of the difference on gold rows as chance does not explain: classes that people
        mean may be others than those that explain the votes.
        """
        right = self._right(self.reference, inside)
        if not len(right):
            return 0.0
        says = self.told[self.reference].max(axis=1)
        said = float((says if inside is None else says[inside]).mean())
        chance = np.sqrt(max(said * (1 - said), 1 / len(right)) / len(right))
        return max(0.0, abs(said - float(right.mean())) - float(chance))

    def _right(self, method: str, inside: npt.NDArray[np.bool_] | None = None) -> Floats:
        right: Floats = (self.told[method].argmax(axis=1) == self.labels).astype(np.float64)
        return right if inside is None else right[inside]

    def _verdict(self, one: str, other: str, group: str | None = None) -> Verdict:
        """Return how much better one method is than another, overall or in a group."""
        parts = self.judged if group is None else [self.parts.get(group, self.parts[POOLED])]
        rows = np.array([part.rows for part in parts])
        share = rows / max(rows.sum(), 1.0)
        predicted = share @ [part.predicted[one] - part.predicted[other] for part in parts]
        doubt = share @ [part.misfit for part in parts]
        if STACKED in (one, other):
            # it knows from gold rows what the reference can only believe: they decide
            doubt = max(float(doubt), 1.0)
        inside = None if group is None else np.array([g == group for g in self.dev.groups], bool)
        return compare(
            float(predicted),
            float(doubt),
            self._gap(inside),
            self._scale(one, other, parts, share),
            float(rows.sum()),
            self._right(one, inside),
            self._right(other, inside),
        )

    def _scale(self, one: str, other: str, parts: list[Part], share: Floats) -> float:
        """Return on how many rows two models differ, beside the reference and majority vote."""
        if MAJORITY not in self.told:
            return 1.0
        both = float(share @ [differing(part, one, other) for part in parts])
        usual = float(share @ [differing(part, self.reference, MAJORITY) for part in parts])
        return both / max(usual, both, 1e-12)

    def _overall(self, reference: str) -> tuple[str, str, Verdict | None]:
        """Return the method to use, the best beside majority vote, and how these two compare."""
        default = MAJORITY if MAJORITY in self.told else reference
        against = {m: self._verdict(m, reference) for m in self.told if m != reference}
        best = reference
        if len(self.labels):
            for method, verdict in against.items():
                least = 0.0 if best == reference else against[best].expected
                if verdict.expected > least:
                    best = method
        if best == default:
            return best, reference, None if best == reference else self._verdict(reference, best)
        verdict = self._verdict(best, default)
        return (best if verdict.better else default), best, verdict

    def _kept(self, method: str) -> list[str]:
        """Return the groups that keep majority vote although another method is used."""
        if not self.spec.per_source or MAJORITY not in self.told or method == MAJORITY:
            return []
        names = [part.name for part in self.judged if part.name != POOLED]
        return [name for name in names if self._verdict(method, MAJORITY, name).worse]

    def _result(
        self, reference: str, method: str, rival: str, verdict: Verdict | None, kept: list[str]
    ) -> LabelModelFit:
        default = MAJORITY if MAJORITY in self.told else reference
        if verdict is None:
            reason = "no other candidate was asked for" if len(self.told) == 1 else (
                f"no other candidate is expected to be right more often than {method}"
            )  # fmt: skip
        elif method == default:
            named = f"the likeliest model {rival}" if rival == reference else rival
            reason = f"{default} is used, {named} is not: {verdict}"
        else:
            reason = f"{method} is better than {default}: {verdict}"
        used = {
            group: MAJORITY if group in kept else method
            for group in sorted({*self.dev.groups, *(p.name for p in self.judged)} - {POOLED})
        }
        models = {}
        final = self.told[method].copy()
        for name, part in self.parts.items():
            own = self.gold if name == POOLED else self.gold.inside(name)
            chosen = MAJORITY if name in kept else method
            models[name] = refined(part, part.models[chosen], own, self.settings)
            if name in kept:
                inside = np.array([group == name for group in self.dev.groups], bool)
                final[inside] = self.told[MAJORITY][inside]
        calibration = calibrated(final, self.labels)
        if calibration["temperature"] != 1.0:
            models = {
                name: replace(model, temperature=calibration["temperature"])
                for name, model in models.items()
            }
        off = self._by_rows([part.misfit for part in self.judged])
        return LabelModelFit(
            method, self.n_classes, models, self._evidence(method, reason, used, default),
            calibration, reason, self.copies, round(off, 6),
            {n: p.models[plain_name(reference)] for n, p in self.parts.items()}
            if self.spec.carry else {},
            self.fits if self.spec.carry else {},
        )  # fmt: skip

    def _evidence(
        self, method: str, reason: str, used: Mapping[str, str], default: str
    ) -> list[dict[str, Any]]:
        """Return one record per method, for all rows and for each group."""
        rows = np.array([part.rows for part in self.judged])
        records = []
        for candidate, told in self.told.items():
            for group in ["all", *used]:
                inside = np.array([group in ("all", name) for name in self.dev.groups], bool)
                parts = [p for p in self.judged if group in ("all", p.name)]
                weight = rows if group == "all" else np.array([p.rows for p in parts])
                predicted = (
                    float(np.average([p.predicted[candidate] for p in parts], weights=weight))
                    if len(parts) and weight.sum() > 0
                    else None
                )
                chosen = candidate == (method if group == "all" else used[group])
                note = ""
                if chosen and group == "all":
                    note = reason
                elif chosen and candidate != method:
                    note = f"{method} is not used here: {self._verdict(method, default, group)}"
                elif chosen:
                    note = "as for all"
                records.append(
                    _record(candidate, group, told[inside], self.labels[inside], predicted)
                    | {"chosen": chosen, "note": note}
                )
        return records


def _record(
    method: str, group: str, told: Floats, labels: Ints, predicted: float | None
) -> dict[str, Any]:
    n = len(labels)
    right = told.argmax(axis=1) == labels
    chosen = np.clip(told[np.arange(n), labels], 1e-3, 1)
    return {
        "method": method,
        "group": group,
        "predicted_accuracy": None if predicted is None else round(predicted, 4),
        "dev_rows": n,
        "accuracy": round(float(right.mean()), 4) if n else None,
        "log_loss": round(float(-np.log(chosen).mean()), 4) if n else None,
        "calibration_error": round(calibration_error(told, labels), 4) if n else None,
    }
