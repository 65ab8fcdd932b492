"""Choose the base model: by a probe of each candidate, and by how models of each turned out.

Every candidate is judged by the same weak dev labels, averaged over sources. What a probe says is
its agreement with them: exp(-(log loss - entropy of the labels)), the geometric mean of the
probability that it gives to a label, relative to labels that are known; 1 is the best there is.

Models that were made of a candidate before tell more than a probe, and the more the more there
are. Their outcomes o (see `lineage.choosing_base.measured`) and the agreements a are brought
together as the mean of a normal prior with measured data (Gelman et al., "Bayesian Data Analysis",
equation 2.10): of a base with n outcomes

    expected = (prior * (a + gap) + n * mean of o) / (prior + n),

where gap is the mean over all outcomes of o - a of their base: what the probe is off by. A point
of agreement stands for a point of outcome. Where models of one base alone were measured, gap takes
up what they say and the probe decides; with two, the better measured one gains on the other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.errors import BaseModelError, FMError, NonFiniteLossError, TrainingError
from fm_platform.spec.base_model import DeclaredBase
from fm_platform.spec.training import Training
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import balanced_sample, readable_tokens
from fm_platform.training.embed import embed
from fm_platform.training.separability import mean_over, separability

OnTrial = Callable[[Mapping[str, Any]], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A declared base.

    Attributes:
        label: What it is called.
        base: None where it cannot be read.
        why: Why it cannot, and what to do.
    """

    label: str
    base: BaseModel | None
    why: str = ""


@dataclass(frozen=True)
class ChosenBase:
    """What was chosen, and why.

    Attributes:
        label: Of the candidate.
        trials: One row a candidate: state (chosen, tried, not tried, ruled out, failed,
            unreadable), agreement, expected, probe_loss and short_loss in nats, probe_accuracy,
            short_accuracy, logme, outcomes and their mean, cpu_seconds, why.
        told: In one sentence.
    """

    label: str
    trials: list[Row]
    told: str


@dataclass
class _Rows:
    """The rows that judge: a few of each source, with labels that tell all classes apart."""

    train: pa.Table
    dev: pa.Table
    config: Training
    per_source: int
    entropy: float = field(init=False)

    def __post_init__(self) -> None:
        generator = np.random.default_rng([self.config.seed, 11])
        self.train = _few(self.train, self.per_source, generator)
        self.dev = _few(self.dev, self.config.max_dev_rows, np.random.default_rng(0))
        if not self.train.num_rows or not self.dev.num_rows:
            raise TrainingError(
                "a choice of the base model needs rows to probe with and dev rows to judge by",
                found=f"{self.train.num_rows} train rows, {self.dev.num_rows} dev rows",
                next_step="declare one base_model, or wait for more rows",
            )
        targets = _targets(self.dev)
        losses = -(targets * np.log(np.maximum(targets, 1e-12))).sum(axis=1)
        self.entropy = mean_over(losses, self.dev["source"].to_pylist())


def choose_base(
    rows: pa.Table,
    dev: pa.Table,
    candidates: Sequence[Candidate],
    declared: DeclaredBase,
    config: Training,
    classes: Sequence[str],
    past: Mapping[str, Sequence[float]],
    workdir: Path,
    size_mb: float | None = None,
    on_trial: OnTrial | None = None,
) -> ChosenBase:
    """Return the candidate of which the best model is expected.

    The same arguments give the same answer, unless the minutes cut the short trainings. Of equal
    candidates the first one wins.

    Args:
        rows: Cleaned rows of the train split, of all sources.
        dev: The same of the dev split.
        candidates: In the order of their declaration.
        declared: How they are judged.
        config: How models are trained; a short training is the first of its ways.
        classes: Class names, by index.
        past: Content of a base -> number of outcomes, and their mean.
        workdir: Belongs to this choice alone.
        size_mb: What a model may take, in 10^6 bytes; candidates above it are ruled out.
        on_trial: Told of every candidate that was judged.

    Raises:
        TrainingError: If there is nothing to judge by, or no candidate could be judged.
    """
    few = _Rows(rows, dev, config, declared.rows_per_source)
    found = [_probed(one, few, config, classes, size_mb, on_trial) for one in candidates]
    judged = "probe"
    if declared.probe == "short_run":
        judged = "short"
        usable = {one.label: one.base for one in candidates if one.base is not None}
        _run_short(found, usable, rows, dev, declared, config, classes, workdir, on_trial)
    competing = [row for row in found if row["state"] == "tried"]
    for row in competing:
        row["agreement"] = round(float(np.exp(few.entropy - row[f"{judged}_loss"])), 6)
    if not competing:
        raise TrainingError(
            "no candidate for the base model could be judged",
            found="; ".join(f"{row['candidate']}: {row['why'] or row['state']}" for row in found),
            next_step="mend one of them, or declare others under base_model.candidates",
        )
    _expect(competing, {one.label: one.base for one in candidates}, past, declared.prior)
    best = max(competing, key=lambda row: float(row["expected"]))  # the first of equal ones
    best["state"] = "chosen"
    return ChosenBase(best["candidate"], found, _told(best, found, competing, judged))


def _few(rows: pa.Table, per_source: int, generator: np.random.Generator) -> pa.Table:
    if "cells" in rows.column_names:  # a label that does not tell all classes apart judges nobody
        rows = rows.filter(rows["cells"].is_null())
    few = balanced_sample(rows["source"].to_pylist(), per_source, generator)
    return rows.take(pa.array(few, pa.int64()))


def _targets(rows: pa.Table) -> npt.NDArray[np.float32]:
    flat = np.asarray(rows["probabilities"].combine_chunks().flatten(), np.float32)
    return flat.reshape(rows.num_rows, -1)


def _probed(
    candidate: Candidate, few: _Rows, config: Training, classes: Sequence[str],
    size_mb: float | None, on_trial: OnTrial | None,
) -> Row:  # fmt: skip
    """Return the row of a candidate with what the linear probe says of it."""
    row: Row = {
        "candidate": candidate.label, "state": "unreadable", "expected": None, "agreement": None,
        "probe_loss": None, "probe_accuracy": None, "logme": None, "short_loss": None,
        "short_accuracy": None, "outcomes": 0, "mean_outcome": None, "cpu_seconds": None,
        "why": candidate.why,
    }  # fmt: skip
    if candidate.base is None:
        return row
    began = time.process_time()
    try:
        row["why"] = ruled_out(candidate.base, config, classes, size_mb)
        if row["why"]:
            return row | {"state": "ruled out"}
        vectors = [
            embed(candidate.base, part["text"].to_pylist(), max_tokens=config.max_tokens)
            for part in (few.train, few.dev)
        ]
    except BaseModelError as error:  # weights or tokenizer are read here first
        return row | {"why": told_of(error)}
    said = separability(
        vectors[0], _targets(few.train), vectors[1], _targets(few.dev),
        few.dev["source"].to_pylist(), config.seed,
    )  # fmt: skip
    row |= {
        "state": "tried", "probe_loss": round(said.loss, 6),
        "probe_accuracy": round(said.accuracy, 6), "logme": round(said.logme, 6),
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip
    if on_trial is not None:
        on_trial(row)
    return row


def told_of(error: FMError) -> str:
    """Return an error in one line: what is wrong, and what to do."""
    then = f"; {error.next_step}" if error.next_step else ""
    found = f" ({error.found})" if error.found else ""
    return f"{error.message}{found}{then}"


def ruled_out(
    base: BaseModel, config: Training, classes: Sequence[str], size_mb: float | None
) -> str:
    """Return why no model of the project can be made of a base; empty where one can.

    Raises:
        BaseModelError: If its tokenizer cannot be read.
    """
    settings = json.loads((base.directory / "config.json").read_text("utf-8"))
    reads = readable_tokens(settings, base.tokenizer())
    if reads < config.max_tokens:
        return f"it reads {reads} tokens, training.max_tokens is {config.max_tokens}"
    if size_mb is not None:
        size = model_bytes(base, classes) / 1e6
        if size > size_mb:
            return f"its model takes {size:.1f} MB, gate.constraints.size_mb is {size_mb:g}"
    return ""


def model_bytes(base: BaseModel, classes: Sequence[str]) -> int:
    """Return how many bytes the weights of a merged model take: float32, laid out, not loaded.

    Raises:
        BaseModelError: If the installed libraries do not know such a model.
    """
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(
            str(base.directory), local_files_only=True, trust_remote_code=False,
            num_labels=len(classes),
        )  # fmt: skip
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            make: Any = transformers.AutoModelForSequenceClassification.from_config
            sizes = [int(p.numel()) for p in make(config).parameters()]
    except Exception as error:  # the libraries raise any kind for a model they do not know
        raise BaseModelError(
            "the installed libraries make no classifier of the base model",
            where=base.location, found=f"{type(error).__name__}: {str(error)[:200]}",
            next_step="declare another candidate",
        ) from error  # fmt: skip
    return 4 * sum(sizes)


def _run_short(
    found: list[Row], bases: Mapping[str, BaseModel], rows: pa.Table, dev: pa.Table,
    declared: DeclaredBase, config: Training, classes: Sequence[str], workdir: Path,
    on_trial: OnTrial | None,
) -> None:  # fmt: skip
    """Train of each candidate for a while, those first that the linear probe likes best."""
    from fm_platform.training.auto import short_training

    auto = {"rows_per_source": declared.rows_per_source, "epochs": declared.epochs}
    brief = config.model_copy(update={"auto": config.auto.model_copy(update=auto)})
    order = sorted((r for r in found if r["state"] == "tried"), key=lambda row: row["probe_loss"])
    began = time.perf_counter()
    for number, row in enumerate(order):
        if number >= declared.trials or (
            number and time.perf_counter() - began > 60 * declared.minutes
        ):
            row["state"] = "not tried"
            row["why"] = "its linear probe is behind, and trials or minutes are used up"
            continue
        cpu = time.process_time()
        try:
            loss, accuracy = short_training(
                rows, dev, bases[row["candidate"]], brief, classes, workdir / f"short-{number}"
            )
            row["short_loss"], row["short_accuracy"] = round(loss, 6), round(accuracy, 6)
        except (BaseModelError, NonFiniteLossError) as error:  # a reject, told with the others
            row["state"], row["why"] = "failed", told_of(error)
        row["cpu_seconds"] = round(row["cpu_seconds"] + time.process_time() - cpu, 1)
        if on_trial is not None:
            on_trial(row)


def _expect(
    rows: Sequence[Row], bases: Mapping[str, BaseModel | None],
    past: Mapping[str, Sequence[float]], prior: float,
) -> None:  # fmt: skip
    """Fill in the outcomes of each candidate, and what is expected with them."""
    for row in rows:
        base = bases[row["candidate"]]
        n, mean = past.get(base.content_hash, (0, None)) if base is not None else (0, None)
        row["outcomes"], row["mean_outcome"] = int(n or 0), mean
    known = [row for row in rows if row["outcomes"]]
    total = sum(row["outcomes"] for row in known)
    gap = sum(r["outcomes"] * (r["mean_outcome"] - r["agreement"]) for r in known) / max(total, 1)
    for row in rows:
        n = row["outcomes"]
        seen = n * row["mean_outcome"] if n else 0.0
        row["expected"] = round((prior * (row["agreement"] + gap) + seen) / (prior + n), 6)


def _told(best: Row, found: Sequence[Row], competing: Sequence[Row], judged: str) -> str:
    others = [f"{r['candidate']} {r['expected']:.4f}" for r in competing if r is not best]
    probe = "linear probe" if judged == "probe" else "short training"
    told = f"{best['candidate']} was chosen by {probe}: {best['expected']:.4f} is expected of it"
    told += f" against {', '.join(others)}" if others else ", nothing else could be judged"
    measured = sum(row["outcomes"] for row in competing)
    told += f"; {measured} measured models count as well" if measured else ""
    out = [f"{r['candidate']} ({r['state']})" for r in found if r not in competing]
    told += f"; left out: {', '.join(out)}" if out else ""
    by_evidence = max(competing, key=lambda row: float(row["logme"]))
    if by_evidence is not best and judged == "probe" and not measured:
        told += f"; LogME would have taken {by_evidence['candidate']}: `probe: short_run` decides"
    return told
