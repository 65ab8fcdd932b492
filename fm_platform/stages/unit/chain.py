"""The whole chain over a few rows in memory: votes, labels, cleaning, experts, one merged model.

The library's own functions are called as the stages call them; nothing is written but what a
training needs, below a folder that is thrown away. What a day looks up in other days is not
there, so rules that need it do not run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.clean import clean_day
from fm_platform.errors import LabelingError, MergeRefusedError, TrainingError
from fm_platform.labeling.apply import VoteColumn, apply_function
from fm_platform.labeling.asking import PeopleContext
from fm_platform.labeling.candidates import Gold
from fm_platform.labeling.cells import best, cells_of
from fm_platform.labeling.functions import LabelingContext, LabelingFunction
from fm_platform.labeling.label_model import LabelModelFitter, majority_vote
from fm_platform.labeling.load import load_functions
from fm_platform.labeling.partial import ABSTAIN, ClassSets, Votes, unite
from fm_platform.labeling.vocabulary import Vocabulary
from fm_platform.lineage.recipes import people_asked
from fm_platform.lineage.unit_recipes import LOOKING_AROUND
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import Expert, Training
from fm_platform.stages import tables
from fm_platform.stages.asking import asking_context
from fm_platform.stages.common import Reporter
from fm_platform.stages.unit.rows import UnitRows
from fm_platform.stages.variants import is_plain
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.targets import sharpened
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.train import TrainedExpert

Floats = npt.NDArray[np.float32]
_PATIENCE = 10
_NEVER = 1_000_000  # no checkpoint in a training of seconds


@dataclass
class Outcome:
    """What came of the rows, as far as the chain went.

    Attributes:
        columns: What each function said, in order.
        sets: What votes below -1 mean.
        posteriors: float32[n, k] of the label model.
        labeled: Its label of each row; None where no function votes.
        removed: Position of a row -> the rule that removed it and why.
        left_out: Declared rules that did not run.
        taught: Position of a row that stayed -> the class that it teaches.
        losses: Model -> mean loss of its first and of its last epoch, in nats.
        answers: float32[n, k] of the merged model.
        stopped: The step that raised an error, and the error in words; None where all ran.
    """

    columns: list[VoteColumn] = field(default_factory=list)
    sets: ClassSets = field(default_factory=lambda: ClassSets(()))
    posteriors: Floats | None = None
    labeled: list[str | None] = field(default_factory=list)
    removed: dict[int, tuple[str, str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    taught: dict[int, int] = field(default_factory=dict)
    losses: dict[str, tuple[float, float]] = field(default_factory=dict)
    answers: Floats | None = None
    stopped: tuple[str, str] | None = None


def run_chain(
    ws: Workspace, project: LoadedProject, rows: UnitRows, folder: Path, log: Reporter
) -> Outcome:
    """Label, clean, train and merge some rows; an error of one of these ends the chain.

    Args:
        ws: Where answers of models are kept.
        project: What is declared.
        rows: The rows.
        folder: For what trainings write.
        log: Told which step begins.

    Raises:
        FMError: If something failed that is no fault of the project: a disk, a package.
    """
    chain = _Chain(ws, project, rows, folder, log)
    steps = (
        ("votes", chain.vote), ("label model", chain.label), ("cleaning", chain.clean),
        ("training", chain.train), ("merging", chain.merge),
    )  # fmt: skip
    for done, (name, step) in enumerate(steps):
        log.progress("unit set", done, len(steps), name)
        try:
            step()
        except (LabelingError, MergeRefusedError, TrainingError) as error:
            chain.outcome.stopped = name, " ".join(str(error).split())
            break
    return chain.outcome


class _Chain:
    def __init__(
        self, ws: Workspace, project: LoadedProject, rows: UnitRows, folder: Path, log: Reporter
    ) -> None:
        self.ws, self.project, self.spec = ws, project, project.spec
        self.rows, self.folder, self.log = rows, folder, log
        self.classes = list(project.spec.taxonomy.classes)
        self.outcome = Outcome()
        self.weak = self.kept = rows.rows
        self.votes: Votes = np.zeros((len(rows.labels), 0), np.int8)
        self.trained: dict[str, Path] = {}
        self.base: BaseModel = resolve_base_model(project.spec.base_model, project.directory)

    # --- labels -----------------------------------------------------------------------------

    def vote(self) -> None:
        """Let every function vote; those that learn see the rows and labels of the set."""
        functions = load_functions(self.spec, self.project.directory)
        asked = people_asked(self.spec)
        told: dict[str, VoteColumn] = {}
        for function in functions:
            if not function.needs:
                known = (
                    PeopleContext() if function.name in asked
                    else asking_context(self.ws, function, "unit set", self.log)
                )  # fmt: skip
                told[function.name] = self._ask(function, known)
        learning = [function for function in functions if function.needs]
        if learning:
            known = self._exemplars(self._matrix(told.values()))
            told |= {function.name: self._ask(function, known) for function in learning}
        self.outcome.columns = [told[function.name] for function in functions]
        self.votes = self._matrix(self.outcome.columns)

    def _ask(self, function: LabelingFunction, known: LabelingContext) -> VoteColumn:
        """Let one function vote, with patience: what it loads at its first call, it loads here."""
        vocabulary = Vocabulary.of(self.classes, self.spec.taxonomy.former)
        return apply_function(
            function, self.rows.rows.to_batches(), vocabulary, known,
            timeout_s=_PATIENCE * self.spec.labeling.timeout_s,
        )  # fmt: skip

    def _matrix(self, columns: Iterable[VoteColumn]) -> Votes:
        """Return votes int8[n, m]; the sets among them are those of the outcome."""
        votes, self.outcome.sets = unite([(column.votes, column.sets) for column in columns])
        return np.stack(votes, axis=1) if votes else self.votes

    def _exemplars(self, votes: Votes) -> LabelingContext:
        """Return the set as its own exemplars: a row is judged by a fit without it."""
        from fm_platform.training.embed import embed

        vectors = embed(self.base, self.rows.texts, max_tokens=self.spec.training.max_tokens)
        ids, sources = self.rows.rows["row_id"].to_pylist(), self.rows.sources
        return LabelingContext(
            row_embeddings=vectors, row_votes=votes, row_sources=sources, row_ids=ids,
            exemplar_embeddings=vectors, exemplar_votes=votes, exemplar_sources=sources,
            exemplar_ids=ids, exemplar_labels=self._expected(), seed=self.spec.training.seed,
        )  # fmt: skip

    def _expected(self) -> npt.NDArray[np.int64]:
        return np.array([self.classes.index(label) for label in self.rows.labels], np.int64)

    def label(self) -> None:
        """Fit the label model on the votes; as on real days, labeled rows say which one is used."""
        k, sets = len(self.classes), self.outcome.sets
        fitter = LabelModelFitter(self.votes.shape[1], k, self.spec.labeling.label_model)
        fitter.add(self.votes, self.rows.sources, sets)
        gold = Gold(self.votes, self._expected().astype(np.int8), self.rows.sources, sets)
        posteriors = fitter.fit(gold).predict(self.votes, self.rows.sources, sets)
        labeled = np.any(self.votes != ABSTAIN, axis=1)
        cells = cells_of(self.votes, sets, self.spec.taxonomy.sets, k)
        label, confidence = best(posteriors, cells)
        names = [self.classes[b] if ok else None for b, ok in zip(label, labeled, strict=True)]
        self.outcome.posteriors, self.outcome.labeled = posteriors, names
        self.weak = pa.table(
            {
                **{name: self.rows.rows[name] for name in tables.WEAK_LABELS.names[:6]},
                "votes": tables.lists(self.votes, pa.int8()),
                "majority": tables.lists(majority_vote(self.votes, k, sets=sets), pa.float32()),
                "probabilities": tables.lists(posteriors, pa.float32()),
                "label": pa.array(names, pa.string()),
                "confidence": pa.array(confidence, pa.float32()),
                "labeled": pa.array(labeled),
                **({"cells": tables.cells(cells)} if self.spec.taxonomy.sets else {}),
            },
            schema=tables.weak_labels_schema(self.spec),
        )

    # --- models -----------------------------------------------------------------------------

    def clean(self) -> None:
        """Run the rules that need no other day."""
        rules = [rule for rule in self.spec.cleaning if rule.rule not in LOOKING_AROUND]
        left_out = [r.rule for r in self.spec.cleaning if r.rule in LOOKING_AROUND]
        self.outcome.left_out = tuple(dict.fromkeys(left_out))
        day = self.spec.calendar.start.isoformat()
        done = clean_day(self.weak.to_batches(), rules, self.classes, frozenset(), day)
        schema = tables.CLEANED if not self.spec.taxonomy.sets else done.kept[0].schema
        self.kept = tables.combine(done.kept, schema).sort_by("row_id")
        ids = self.rows.rows["row_id"].to_pylist()
        for refused in done.quarantine:
            for row in refused.filter(refused["removed"]).to_pylist():
                self.outcome.removed[ids.index(row["row_id"])] = row["rule"], row["reason"]
        self.kept = sharpened(self.kept, self.spec.training.target_power)
        for row in self.kept.to_pylist():
            self.outcome.taught[ids.index(row["row_id"])] = int(np.argmax(row["probabilities"]))

    def train(self) -> None:
        """Train the shared start and every expert, as declared but for the number of epochs."""
        from fm_platform.training.start import fit_start
        from fm_platform.training.train import train_expert
        from fm_platform.training.variants import fit_start_as, train_expert_as

        config, plain = self._settings(), is_plain(self.spec)
        none, start = self.kept.slice(0, 0), self.folder / "start"
        fit = fit_start if plain else fit_start_as
        begun = fit(self.kept, none, self.base, config, self.classes, start)
        self._done("shared start", begun)
        go_on = train_expert if plain else train_expert_as
        for expert in self.spec.experts:
            done = go_on(
                self._of(expert), none, self.base, begun.directory, config, self.classes,
                self.folder / f"expert-{expert.name}",
            )  # fmt: skip
            self._done(expert.name, done)

    def _of(self, expert: Expert) -> pa.Table:
        own = self.kept.filter(pc.is_in(self.kept["source"], pa.array(sorted(expert.sources))))
        if own.num_rows == 0:
            raise TrainingError(
                f"expert {expert.name} has no row of the unit set",
                expected=f"a row of {', '.join(expert.sources)} that cleaning leaves",
            )
        return own

    def _settings(self) -> Training:
        training, declared = self.spec.training, self.spec.unit
        method = training.auto.methods[0] if training.method == "auto" else training.method
        epochs = declared.epochs if declared is not None else training.epochs
        return training.model_copy(
            update={
                "epochs": epochs,
                "checkpoint_every_steps": _NEVER,
                "method": method,
                "threads": 1,
            }
        )

    def _done(self, name: str, trained: TrainedExpert) -> None:
        self.trained[name] = trained.directory
        losses = [float(point["train_loss"]) for point in trained.history if "train_loss" in point]
        each = max(1, len(losses) // self._settings().epochs)
        first, last = np.mean(losses[:each]), np.mean(losses[-each:])
        self.outcome.losses[name] = float(first), float(last)

    def merge(self) -> None:
        """Merge the experts and ask the merged model."""
        from fm_platform.merging.merge import merge_experts
        from fm_platform.training.predict import load_classifier, predict_probabilities

        training = self.spec.training
        adapters = {expert.name: self.trained[expert.name] for expert in self.spec.experts}
        merged = merge_experts(
            self.base, adapters, self.spec.merge, self.classes, self.folder / "merged",
            start=self.trained["shared start"], dev=self.kept,
            sources={expert.name: expert.sources for expert in self.spec.experts},
            max_tokens=training.max_tokens, threads=1,
        )  # fmt: skip
        model: Any = load_classifier(merged.directory)
        self.outcome.answers = predict_probabilities(
            model, self.rows.texts, max_tokens=training.max_tokens
        )
