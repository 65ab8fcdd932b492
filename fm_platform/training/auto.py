"""Choose how to train by short trainings: method, rank, rate and frozen layers.

Every trial sees the same rows in batches of the same order (or the declared share of them) and is
judged by plain soft cross entropy on the same weak dev labels, whatever it was trained with,
averaged over sources so that a big one does not decide alone. Where gold dev rows judge, it is how
many of them are answered right; they are shown beside in any case. Each method is tried once
as it is declared, then what was chosen before; the rest is proposed by the tree-structured Parzen
estimator (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"). A trial that is
worse on weak dev labels than the median of those before it at the same evaluation ends there,
unless gold rows judge.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import NonFiniteLossError, TrainingError
from fm_platform.losses import soft_cross_entropy
from fm_platform.numerics import reproducible
from fm_platform.spec.training import Training
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import (
    Encoded,
    balanced_sample,
    by_length,
    cells_of,
    encode,
    padded,
    take,
    token_batches,
)
from fm_platform.training.dimensions import (
    named_of,
    one_by_one,
    open_of,
    shown_of,
    tried_of,
    usual_of,
)
from fm_platform.training.loop import TrainingLoop
from fm_platform.training.methods import new_adapter
from fm_platform.training.objective import objective_of
from fm_platform.training.start import probe_head
from fm_platform.training.subset import Vectors, fewer

_EVALUATIONS = 4
_JUDGED_TOKENS = 4096
_RATES = ("learning_rate", "expert_learning_rate", "full_learning_rate")
OnTrial = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and why.

    Attributes:
        settings: Fields of `Training` and their values.
        trials: One row a trial: method, rank, rate, frozen_layers, loss, weights, subset, state
            (chosen, tried, pruned, failed), dev_loss in nats, dev_accuracy, gold_accuracy (where
            there are gold rows), cpu_seconds, trained_parameters.
        told: In one sentence.
        left_out: Trials that the minutes did not allow.
    """

    settings: dict[str, Any]
    trials: list[dict[str, Any]]
    told: str
    left_out: int


class _Pruned(Exception):  # noqa: N818  no error: it ends a trial early
    pass


class _JudgedLoop(TrainingLoop):
    """The training loop; each dev loss is reported, and may end it."""

    report: Callable[[int, float], None]

    def _evaluate(self) -> None:
        super()._evaluate()
        seen = [point for point in self.history if "dev_loss" in point]
        self.report(len(seen), float(seen[-1]["dev_loss"]))  # steps differ where rows do

    def _save(self) -> None:
        """Keep nothing: a trial is short, and an interrupted search begins again."""


def choose_training(
    rows: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
    before: Mapping[str, Any] | None = None,
    on_trial: OnTrial | None = None,
    vectors: Vectors | None = None,
    gold: pa.Table | None = None,
) -> Chosen:
    """Return the settings that are best by the declared judge.

    The same arguments give the same answer, unless the minutes cut the search short.

    Args:
        rows: Cleaned rows of the train split, of all sources.
        dev: The same of the dev split.
        base: The base model.
        config: What is declared; `auto` says what is tried.
        classes: Class names, by index.
        workdir: Belongs to this search alone.
        before: What was chosen last time.
        on_trial: Told of every trial.
        vectors: Gives embeddings where a trial chooses its rows by coverage.
        gold: Dev rows that people labeled: row_id, source, text, probabilities.

    Raises:
        TrainingError: If there is nothing to train on or to judge by, no trial succeeded, or rows
            that are chosen by coverage have no embeddings.
        BaseModelError: If the base cannot be used.
    """
    if not rows.num_rows or not dev.num_rows:
        raise TrainingError(
            "training.method auto needs rows to train on and dev rows to judge by",
            found=f"{rows.num_rows} train rows, {dev.num_rows} dev rows",
            next_step="declare training.method: lora, or wait for more rows",
        )
    if config.auto.judge == "gold" and (gold is None or not gold.num_rows):
        raise TrainingError(
            "auto.judge gold needs dev rows that people labeled",
            next_step="declare auto.judge: weak, or label some: fm label open",
        )
    with reproducible(config.threads):
        search = _Search(rows, dev, base, config, classes, workdir, vectors, gold)
        return search.run(before, on_trial)


def short_training(
    rows: pa.Table,
    dev: pa.Table,
    base: BaseModel,
    config: Training,
    classes: Sequence[str],
    workdir: Path,
) -> tuple[float, float]:
    """Return expected log loss and accuracy on weak dev labels after one trial as declared.

    With `method: auto` it is the first of the declared methods; no row is left out. Arguments and
    errors are those of `choose_training`; a loss that is not finite is raised.
    """
    with reproducible(config.threads):
        search = _Search(rows, dev, base, config, classes, workdir, None, None)
        settings = search.settings(search._first(None)[0]) if config.method == "auto" else {}
        told = search._train(_Alone(), {**settings, "subset": 1.0})
        return told["dev_loss"], told["dev_accuracy"]


class _Alone:
    """A trial that is compared with no other."""

    number = 0

    def report(self, _loss: float, _step: int) -> None:
        """Keep nothing."""

    def should_prune(self) -> bool:
        """Go on to the end."""
        return False


class _Search:
    """One search: rows as tokens, trials, answer."""

    def __init__(
        self, rows: pa.Table, dev: pa.Table, base: BaseModel, config: Training,
        classes: Sequence[str], workdir: Path, vectors: Vectors | None, gold: pa.Table | None,
    ) -> None:  # fmt: skip
        self.vectors = vectors
        self.base, self.config, self.classes, self.workdir = base, config, classes, workdir
        self.tokenizer = base.tokenizer()
        encoded = encode(self.tokenizer, rows, config.max_tokens, classes)
        generator = np.random.default_rng([config.seed, 7])
        few = balanced_sample(encoded.sources, config.auto.rows_per_source, generator)
        self.rows: Encoded = take(encoded, few)
        judged = encode(self.tokenizer, dev, config.max_tokens, classes)
        few = balanced_sample(judged.sources, config.max_dev_rows, np.random.default_rng(0))
        self.dev: Encoded = take(judged, few)
        self.gold: Encoded | None = None
        if gold is not None and gold.num_rows:
            self.gold = encode(self.tokenizer, gold, config.max_tokens, classes)
        self.trials: list[dict[str, Any]] = []

    def run(self, before: Mapping[str, Any] | None, on_trial: OnTrial | None) -> Chosen:
        optuna = _optuna()
        auto = self.config.auto
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=self.config.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
        )
        for first in self._first(before):
            study.enqueue_trial(first, skip_if_exists=True)
        began, left_out = time.perf_counter(), 0
        for number in range(auto.trials):
            if number and time.perf_counter() - began > 60 * auto.minutes:
                left_out = auto.trials - number
                break
            trial = study.ask(self._space(optuna))
            row = self._try(trial)
            state = {"failed": "FAIL", "pruned": "PRUNED"}.get(row["state"], "COMPLETE")
            found = self._score(row)[0] if state == "COMPLETE" else None
            study.tell(trial, found, state=getattr(optuna.trial.TrialState, state))
            self.trials.append(row)
            if on_trial is not None:
                on_trial(row)
        return self._answer(left_out)

    def _space(self, optuna: Any) -> dict[str, Any]:
        auto, categorical = self.config.auto, optuna.distributions.CategoricalDistribution
        return {
            "method": categorical(auto.methods), "rank": categorical(auto.ranks),
            "rate": categorical(auto.rates), "frozen_layers": categorical(auto.frozen_layers),
            **{name: categorical(values) for name, values in open_of(self.config).items()},
        }  # fmt: skip

    def _first(self, before: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return what is tried first: last time's choice, then every method as declared.

        Then the first method with each further loss, weight and subset.
        """
        auto, config = self.config.auto, self.config
        rank = min(auto.ranks, key=lambda r: (abs(r - config.rank), r))
        rate = min(auto.rates, key=lambda r: (abs(r - 1.0), r))
        found = [
            {"method": m, "rank": rank, "rate": rate, "frozen_layers": auto.frozen_layers[0]}
            for m in auto.methods
        ]
        usual = usual_of(config)
        others = [{**found[0], **one} for one in one_by_one(config)]
        found = [{**one, **usual} for one in found] + others
        if before is not None:
            last = {
                "method": before["method"], "rank": before["rank"],
                "rate": before["learning_rate"] / config.learning_rate,
                "frozen_layers": before["frozen_layers"],
                **{name: before.get(name, usual[name]) for name in usual},
            }  # fmt: skip
            last["rate"] = min(auto.rates, key=lambda r: abs(r - last["rate"]))
            allowed = {"method": auto.methods, "rank": auto.ranks,
                       "frozen_layers": auto.frozen_layers, **open_of(config)}  # fmt: skip
            if all(last[name] in values for name, values in allowed.items()):
                found.insert(0, last)
        return found

    def settings(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of `Training` that a trial stands for."""
        config, by_rank = self.config, trial["method"] in ("lora", "rslora")
        rank = trial["rank"] if by_rank else config.rank
        return {
            "method": trial["method"], "rank": rank, "alpha": config.alpha * rank / config.rank,
            "frozen_layers": 0 if trial["method"] == "head" else trial["frozen_layers"],
            **{name: getattr(config, name) * trial["rate"] for name in _RATES},
            **tried_of(config, trial),
        }  # fmt: skip

    def _try(self, trial: Any) -> dict[str, Any]:
        settings = self.settings(trial.params)
        shown = {"rank": settings["rank"]} if settings["method"] in ("lora", "rslora") else {}
        row: dict[str, Any] = {
            "method": settings["method"], "rank": shown.get("rank"), "rate": trial.params["rate"],
            "frozen_layers": settings["frozen_layers"], **shown_of(self.config, settings),
            "state": "tried", "dev_loss": None,
            "dev_accuracy": None, "trained_parameters": None, "cpu_seconds": None,
        }  # fmt: skip
        began = time.process_time()
        same = next((t for t in self.trials if _way(t) == _way(row)), None)
        if same is not None:  # a rank of what has none: the same training
            return {**same, "cpu_seconds": 0.0}
        try:
            row |= self._train(trial, settings)
        except _Pruned:
            row["state"] = "pruned"
        except NonFiniteLossError as error:  # a reject, told with the others
            row["state"], row["why"] = "failed", error.message
        row["cpu_seconds"] = round(time.process_time() - began, 1)
        return row

    def _train(self, trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        auto = self.config.auto
        config = self.config.model_copy(update={
            **settings, "epochs": auto.epochs, "patience": _EVALUATIONS * auto.epochs + 1,
            "evaluations_per_epoch": _EVALUATIONS, "max_dev_rows": len(self.dev),
        })  # fmt: skip
        model = new_adapter(self.base, config, self.classes, 1)
        pad = self.tokenizer.pad_token_id or 0
        rows = fewer(self.rows, config, self.vectors)
        objective = objective_of(rows, config)
        if config.probe_epochs:
            probe_head(model, rows, config, pad, objective)
        loop = _JudgedLoop(
            model, rows, self.dev, config, learning_rate=config.rate(start=True), pad_id=pad,
            workdir=self.workdir / f"trial-{trial.number}", objective=objective,
        )  # fmt: skip

        def report(evaluation: int, loss: float) -> None:
            trial.report(loss, evaluation)
            if auto.judge == "weak" and trial.should_prune():
                raise _Pruned

        loop.report = report
        loop.run()
        loss, accuracy = self._judge(loop, self.dev)
        told = {} if self.gold is None else {"gold_accuracy": self._judge(loop, self.gold)[1]}
        return {
            "dev_loss": round(loss, 6), "dev_accuracy": round(accuracy, 6),
            **{name: round(value, 6) for name, value in told.items()},
            "trained_parameters": sum(p.numel() for p in loop.parameters.values()),
        }  # fmt: skip

    def _score(self, row: Mapping[str, Any]) -> tuple[float, ...]:
        """Return what is to be least, first what the declared judge says."""
        if self.config.auto.judge == "weak":
            return (row["dev_loss"],)
        return 1.0 - row["gold_accuracy"], row["dev_loss"]

    def _judge(self, loop: TrainingLoop, dev: Encoded) -> tuple[float, float]:
        """Return expected log loss and accuracy on dev rows, the means over sources."""
        import torch

        losses = np.zeros(len(dev), np.float32)
        right = np.zeros_like(losses)
        lengths = [len(tokens) for tokens in dev.tokens]
        pad = self.tokenizer.pad_token_id or 0
        with torch.inference_mode():
            for batch in token_batches(by_length(lengths), lengths, _JUDGED_TOKENS):
                ids, mask = padded([dev.tokens[i] for i in batch], pad)
                device = next(loop.model.parameters()).device
                told = loop.model(input_ids=ids.to(device), attention_mask=mask.to(device))
                logits, targets = told.logits.float().cpu(), dev.targets[batch]
                cells = cells_of(dev, batch)
                losses[batch] = soft_cross_entropy(logits, torch.from_numpy(targets), cells)
                right[batch] = targets[np.arange(len(batch)), logits.argmax(dim=1).numpy()]
        sources = np.array(dev.sources)
        each = [
            (losses[sources == name].mean(), right[sources == name].mean())
            for name in sorted(set(dev.sources))
        ]
        return float(np.mean([one for one, _ in each])), float(np.mean([one for _, one in each]))

    def _answer(self, left_out: int) -> Chosen:
        done = [row for row in self.trials if row["state"] == "tried"]
        if not done:
            raise TrainingError(
                "no way to train succeeded",
                found="; ".join(str(row.get("why", row["state"])) for row in self.trials)[:300],
                next_step="look at the rows, or declare smaller learning rates",
            )
        best = min(done, key=self._score)
        best["state"] = "chosen"
        settings = self.settings({**best, "rank": best["rank"] or self.config.rank})
        by_gold = self.gold is not None and self.config.auto.judge == "gold"
        shown, what = ("gold_accuracy", "accuracy on gold dev rows") if by_gold else (
            "dev_loss", "log loss on weak dev labels")  # fmt: skip
        others = {row["method"]: row[shown] for row in sorted(
            done, key=self._score, reverse=True) if row["method"] != best["method"]}  # fmt: skip
        against = ", ".join(f"{name} {loss:.4f}" for name, loss in sorted(others.items()))
        told = f"{_named(best)}{named_of(self.config, best)} was chosen: {what} {best[shown]:.4f}"
        told += f"; best of the others: {against}" if against else ""
        told += f"; {left_out} trials were left out for want of time" if left_out else ""
        return Chosen(settings, self.trials, told, left_out)


def _way(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("method", "rank", "rate", "frozen_layers", "loss", "weights", "subset")
    return tuple(row[name] for name in names)


def _named(row: Mapping[str, Any]) -> str:
    rank = f" of rank {row['rank']}" if row["rank"] else ""
    frozen = f" above {row['frozen_layers']} frozen layers" if row["frozen_layers"] else ""
    return f"{row['method']}{rank}{frozen} at {row['rate']:g} times the declared rate"


def _optuna() -> Any:
    """Return optuna without its log lines and its notices of what is new in it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
