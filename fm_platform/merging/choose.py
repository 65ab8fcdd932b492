"""Choose method and weights of a merge: weak dev labels propose, gold dev rows decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.adapters import Adapter
from fm_platform.merging.decide import Verdict, best_of, compared
from fm_platform.merging.examine import Score
from fm_platform.merging.knowledge import knowledge_of, linear_tensors
from fm_platform.merging.methods import NEEDS
from fm_platform.merging.search import Candidate, DevSample, best, mean_loss, search_weights
from fm_platform.spec.models import Merge, MergeMethodName


@dataclass(frozen=True)
class Choice:
    """A way to merge, and how it does.

    Attributes:
        method: Its name.
        weights: Expert -> weight.
        scores: Source -> score on weak dev rows; empty where there are none.
        tried: The weights that were tried; empty where none were.
        verdict: By how much gold rows show it to be better than equal weights; None where they
            were not asked.
    """

    method: str
    weights: dict[str, float]
    scores: Mapping[str, Score] = field(default_factory=dict)
    tried: tuple[Candidate, ...] = ()
    verdict: Verdict | None = None


@dataclass
class Choosing:
    """One choice among the declared methods.

    Attributes:
        load: Weights, method, knowledge -> the merged model in evaluation mode.
        experts: What is merged, in the order of the weights.
        merge: What is declared.
        sample: Weak dev rows, or None.
        gold: Dev rows that people labeled, or None.
        scaled: Whether weights may sum to less than 1: experts are merged as what each learned
            beyond a start.
        sources: Expert -> its sources.
        seed: Of what is drawn.
        on_progress: Told of each candidate: done, at most.
    """

    load: Callable[..., Any]
    experts: Sequence[Adapter]
    merge: Merge
    sample: DevSample | None
    sources: Mapping[str, Sequence[str]]
    gold: DevSample | None = None
    scaled: bool = False
    seed: int = 0
    on_progress: Callable[[int, int], None] | None = None
    _known: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    _tried: list[Choice] = field(default_factory=list)

    def choose(self) -> Choice:
        """Return the method and weights that the evidence is for.

        With `evidence: gold` equal weights of the first method, unless gold rows show another to
        be better: the weights that fit weak labels best, of each method, or equal weights of less.
        With `evidence: weak` the method with the least expected log loss of weak labels, and the
        first declared of equals.

        Raises:
            MergeRefusedError: If weights are declared for other experts, methods are to be
                compared without dev rows, or none of them can merge these experts.
        """
        names = [expert.name for expert in self.experts]
        declared = self.merge.weights
        if declared is not None and set(names) != set(declared):
            raise MergeRefusedError(
                "declared merge weights name other experts than there are",
                expected=", ".join(names),
                found=", ".join(sorted(declared)),
                next_step="give every expert a weight in merge.weights, or none at all",
            )
        methods = [m for m in self.merge.candidates if self._can(m)]
        if self.merge.method == "auto" and (self.sample is None or not methods):
            raise MergeRefusedError(
                "there is nothing to choose a merge method by",
                expected="dev rows with weak labels, and a method that merges "
                f"{len(names)} experts",
                found=f"{'no ' if self.sample is None else ''}dev rows; {', '.join(methods)}",
                next_step="declare merge.method",
            )
        methods = methods or list(self.merge.candidates)
        if self.merge.evidence == "gold" and declared is None and len(names) > 1:
            return self._decided(methods)
        self._tried = [self._with(method) for method in methods]
        return min(self._tried, key=lambda choice: mean_loss(dict(choice.scores) or _NO_ROWS))

    def _decided(self, methods: Sequence[MergeMethodName]) -> Choice:
        """Return equal weights, or what gold rows show to be better."""
        names = [expert.name for expert in self.experts]
        equal = [round(1.0 / len(names), 6)] * len(names)
        ways = [self._at(methods[0], equal)]
        if self.gold is not None:
            if self.scaled:
                for scale in self.merge.scales:
                    ways.append(self._at(methods[0], [round(scale * w, 6) for w in equal]))
            if self.sample is not None:
                ways += [self._with(method) for method in methods]
        known: dict[tuple[str, tuple[float, ...]], Choice] = {}
        for way in ways:
            known.setdefault((way.method, tuple(way.weights.values())), way)
        ways = list(known.values())
        if self.gold is None:
            self._tried = ways
            return ways[0]
        losses = [self.gold.each(self._model(way))[0] for way in ways]
        verdicts = compared(losses[0], losses[1:], self.gold.sources.tolist(), self.seed)
        judged = [replace(w, verdict=v) for w, v in zip(ways[1:], verdicts, strict=True)]
        self._tried = [replace(ways[0], verdict=Verdict(0.0, 0.0)), *judged]
        first = best_of(verdicts)
        return self._tried[0] if first is None else judged[first]

    def alone(self) -> dict[str, Mapping[str, Score]]:
        """Return expert -> source -> how it does by itself."""
        if self.sample is None:
            return {}
        found: dict[str, Mapping[str, Score]] = {}
        for expert in self.experts:
            found[expert.name] = self.sample.scores(self._one(expert))
        return found

    def tried_methods(self) -> list[dict[str, Any]]:
        """Return a row for each way: mean log loss, mean and worst accuracy, weights.

        These are of weak labels; where gold rows were asked, by how many nats they show it to be
        better than equal weights, and by how many at least.
        """
        rows = []
        for choice in self._tried:
            accuracies = [score.accuracy for score in choice.scores.values()]
            verdict = choice.verdict
            rows.append({
                "method": choice.method,
                "log_loss": round(mean_loss(dict(choice.scores)), 6),
                "accuracy": round(sum(accuracies) / len(accuracies), 4),
                "worst source": round(min(accuracies), 4),
                **({} if verdict is None else {
                    "gold gain": round(verdict.gain, 6),
                    "gold gain at least": round(verdict.at_least, 6),
                }),
                **{f"weight {name}": weight for name, weight in choice.weights.items()},
            })  # fmt: skip
        return rows

    def knowledge(self, method: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return what a method needs to know of each expert; it is measured once.

        Raises:
            MergeRefusedError: If there are no dev rows to measure it on.
        """
        kind = NEEDS.get(method)
        if kind is None:
            return None
        if kind not in self._known:
            if self.sample is None:
                raise MergeRefusedError(
                    f"merge.method {method} measures what experts know on dev rows, "
                    "and there are none",
                    next_step="take linear or ties, or give the project some more days",
                )
            self._known[kind] = {e.name: self._measured(kind, e, self.sample) for e in self.experts}
        return self._known[kind]

    def _can(self, method: str) -> bool:
        return method != "slerp" or len(self.experts) == 2

    def _with(self, method: str) -> Choice:
        names = [expert.name for expert in self.experts]
        knowledge = self.knowledge(method)

        def load(weights: Sequence[float]) -> Any:
            return self.load(weights, method, knowledge)

        tried: tuple[Candidate, ...] = ()
        if self.merge.weights is not None:
            weights = {name: self.merge.weights[name] for name in names}
        elif len(names) == 1 or self.sample is None:
            weights = dict.fromkeys(names, 1.0 / len(names))
        else:
            tried = search_weights(load, len(names), self.sample, self.merge, self.on_progress)
            weights = dict(zip(names, best(tried, self.merge).weights, strict=True))
        return replace(self._at(method, list(weights.values())), tried=tried)

    def _at(self, method: str, weights: Sequence[float]) -> Choice:
        """Return a way to merge with its scores."""
        names = [expert.name for expert in self.experts]
        way = Choice(method, dict(zip(names, weights, strict=True)))
        scores = {} if self.sample is None else self.sample.scores(self._model(way))
        return replace(way, scores=scores)

    def _model(self, way: Choice) -> Any:
        return self.load(list(way.weights.values()), way.method, self.knowledge(way.method))

    def _one(self, expert: Adapter) -> Any:
        alone = [1.0 if other.name == expert.name else 0.0 for other in self.experts]
        return self.load(alone, "linear", None)

    def _measured(self, kind: str, expert: Adapter, sample: DevSample) -> dict[str, Any]:
        names = [*expert.delta_names(), *expert.head()]
        own = self.sources.get(expert.name) or sorted(set(sample.sources.tolist()))
        model = self._one(expert)
        # embeddings and norms, which full fine-tuning changes as well, are averaged
        known = linear_tensors(model, names)
        found = knowledge_of(kind, model, sample.batches_of(own), known, self.seed)
        # the bias of a layer has no Gram matrix: it is averaged
        return {name: found.get(name) for name in names}


_NO_ROWS = {"": Score(0.0, 0.0, 0)}
