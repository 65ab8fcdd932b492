"""`weak_labels`: what the labeling functions say of one day, and what the label model makes of it.

One function on one day is one artifact, so an edit of one of twenty functions computes one column.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.apply import BATCH_ROWS, LabelingContext, apply_function
from fm_platform.labeling.asking import PeopleContext
from fm_platform.labeling.cells import best, cells_of
from fm_platform.labeling.functions import LabelingFunction, told
from fm_platform.labeling.label_model import LabelModelFit, majority_vote
from fm_platform.labeling.load import load_functions
from fm_platform.labeling.partial import ABSTAIN, ClassSets, Votes, from_table, to_table, unite
from fm_platform.labeling.vocabulary import Vocabulary
from fm_platform.lineage import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.lineage.fingerprints import code_stands_still
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import (
    exemplars_key,
    label_model_recipe,
    learned_inputs,
    of_taxonomy,
    people_asked,
    taxonomy_part,
    votes_key,
    votes_recipe,
    weak_labels_recipe,
)
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.asking import asking_context, questions
from fm_platform.stages.carried_votes import carried_votes
from fm_platform.stages.common import Reporter, StageResult, stage_result
from fm_platform.stages.embeddings import Embeddings
from fm_platform.stages.function_table import function_table
from fm_platform.stages.gold import gold_budget, gold_key, gold_of
from fm_platform.stages.label_model import fit_window, model_before
from fm_platform.stages.label_summary import day_summary
from fm_platform.stages.people import People
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace


def build_weak_labels(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> StageResult:
    """Label one day.

    Raises:
        MissingArtifactError: If `raw` of that day is not built.
        FunctionImportError: If the labeling functions do not import.
        FunctionFailureError: If a function returns an unknown class.
    """
    with code_stands_still():
        return _Day(ws, project, day, run, log).build()


def build_votes(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> list[ArtifactVersion]:
    """Let every labeling function vote on one day; what is known of them is not asked again.

    Raises:
        FMError: As `build_weak_labels`.
    """
    with code_stands_still():
        return _Day(ws, project, day, run, log).votes()


def build_again(
    ws: Workspace, project: LoadedProject, version: ArtifactVersion, run: RunContext, log: Reporter
) -> None:
    """Build votes of one function, or a label model, beside the votes that are in use."""
    one = _Day(ws, project, str(version.partition), run, log)
    if version.kind == "label_model":
        one.label_model([one.latest_votes(function, one.day) for function in one.functions])
        return
    function = {f.name: f for f in one.functions}[version.name]
    reads = "votes" in function.needs
    one.votes_of(function, [one.latest_votes(f, one.day) for f in one.plain_functions if reads])


class _Day:
    """The builds of one day; what they share is read at most once, and only if needed."""

    def __init__(
        self, ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
    ) -> None:
        self.ws, self.project, self.spec = ws, project, project.spec
        self.day, self.run, self.log = day, run, log
        self.vocabulary = Vocabulary.of(self.spec.taxonomy.classes, self.spec.taxonomy.former)
        self.functions = load_functions(self.spec, project.directory)
        raw = ws.ledger.latest(self.spec.name, "raw", "raw", day)
        if raw is None:
            raise MissingArtifactError(
                f"raw of {day} is not built", next_step=f"fm run {self.spec.name} --from {day}"
            )
        self.raw = raw
        self.embeddings = Embeddings(ws, project, run, log)
        self.asked = people_asked(self.spec)
        self.people = People(ws, self.spec, raw, lambda: self.rows)

    # --- what is read -----------------------------------------------------------------------

    @cached_property
    def rows(self) -> pa.Table:
        return tables.read(self.ws, self.raw, "raw")

    @cached_property
    def gold(self) -> pa.Table:
        return gold_of(self.ws, self.spec, self.day)

    @cached_property
    def days(self) -> list[ArtifactVersion]:
        """`raw` of the window of the label model, oldest first."""
        width = self.spec.labeling.label_model.window_days
        return window(self.ws, self.spec, "raw", "raw", self.day, width)

    # --- votes ------------------------------------------------------------------------------

    @cached_property
    def heads(self) -> dict[str, ArtifactVersion]:
        """The votes in use of this day when its build began, by function."""
        found = self.ws.ledger.latest_of_days(self.spec.name, "votes", None, self.day, self.day)
        return {version.name: version for version in found}

    def votes_of(self, function: LabelingFunction, plain: list[ArtifactVersion]) -> ArtifactVersion:
        extra: tuple[Input, ...] = ()
        if function.needs:
            vectors = self.embeddings.version(self.raw)
            extra = learned_inputs(self.day, function.needs, vectors, self.seen_by(function), plain)
        elif function.name in self.asked:
            extra = (self.people.input(self.asked[function.name]),)
        recipe = votes_recipe(
            self.spec, self.day, function.name, function.fingerprint, self.raw, extra
        )
        head = self.heads.get(function.name)
        # what nobody edited costs next to nothing: one query a day, and a look at its bytes
        if (
            head is not None
            and head.recipe_hash == recipe.hash
            and self.ws.columns.unharmed(str(head.location["column"]))
        ):
            return head
        self.ws.ledger.describe(function.fingerprint, "function", lambda: told(function))

        def compute(lease: Lease) -> Produced:
            if (carried := carried_votes(self.ws, recipe, self.vocabulary)) is not None:
                return carried
            context = self.context_of(function, plain)
            column = apply_function(
                function, self.rows.to_batches(max_chunksize=BATCH_ROWS),
                self.vocabulary, context, timeout_s=self.spec.labeling.timeout_s,
            )  # fmt: skip
            table = to_table(self.rows["row_id"], column.votes, column.sets)
            content = self.ws.columns.put(table)
            failures = {"failed_rows": column.failed_rows, "first": list(column.first_failures)}
            told = {"failures": failures, **questions(context)}
            return Produced(
                content, {"column": content}, table.num_rows, table.nbytes, told,
                taxonomy_part(self.spec.taxonomy.classes),
            )  # fmt: skip

        return tables.build(self.ws, recipe, compute, self.run).version

    def context_of(
        self, function: LabelingFunction, plain: list[ArtifactVersion]
    ) -> LabelingContext:
        """Return what a function may know besides the rows."""
        if function.needs:
            return self.context(function, plain)
        if function.name in self.asked:
            return PeopleContext(said=self.people.said(self.asked[function.name]))
        return asking_context(self.ws, function, self.day, self.log)

    def context(self, function: LabelingFunction, plain: list[ArtifactVersion]) -> LabelingContext:
        """Return embeddings and votes of today's rows and of the exemplars, as far as it reads."""
        gold = self.gold if "gold" in function.needs else self.gold.slice(0, 0)
        both = "gold" in function.needs and "votes" in function.needs
        wanted = gold["row_id"].to_pylist()
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        for raw in self.days:
            todays = set(gold.filter(pc.equal(gold["day"], raw.partition))["row_id"].to_pylist())
            if todays:
                vectors |= self.embeddings.of_rows(raw, todays)
        classes = list(self.spec.taxonomy.classes)
        return LabelingContext(
            row_embeddings=self.embeddings.matrix(self.raw, self.rows["row_id"].to_pylist()),
            row_votes=self.matrix(plain)[0] if plain else None,
            row_sources=self.rows["source"].to_pylist(),
            row_ids=self.rows["row_id"].to_pylist(),
            exemplar_embeddings=np.stack([vectors[row] for row in wanted])
            if wanted
            else np.zeros((0, 0), np.float32),
            exemplar_votes=self.exemplar_votes if both else None,
            exemplar_sources=gold["source"].to_pylist(),
            exemplar_ids=wanted,
            exemplar_labels=np.array(
                [classes.index(label) for label in gold["label"].to_pylist()], dtype=np.int64
            ),
            seed=self.spec.training.seed,
        )

    @cached_property
    def plain_functions(self) -> list[LabelingFunction]:
        return [function for function in self.functions if not function.needs]

    @cached_property
    def exemplar_votes(self) -> Votes:
        """Votes of the plain functions on the exemplars, shape [exemplars, functions]."""
        found: dict[str, list[int]] = {}
        for day in sorted(set(self.gold["day"].to_pylist())):
            ids = set(self.gold.filter(pc.equal(self.gold["day"], day))["row_id"].to_pylist())
            columns = [self.column(self.latest_votes(f, day)) for f in self.plain_functions]
            if columns:
                for position, row in enumerate(columns[0]["row_id"].to_pylist()):
                    if row in ids:
                        found[row] = [int(column["vote"][position].as_py()) for column in columns]
        rows = [found[row] for row in self.gold["row_id"].to_pylist()]
        return np.array(rows, np.int8).reshape(len(rows), len(self.plain_functions))

    @cached_property
    def gold_key(self) -> str:
        return gold_key(self.ws, self.spec, self.days)

    @cached_property
    def gold_hash(self) -> str:
        return self.ws.ledger.derive(self.gold_key, lambda: tables.hash_rows(self.gold))

    def seen_by(self, function: LabelingFunction) -> str:
        """Return the hash of the gold rows, and of votes on them, that a function reads."""
        if "gold" not in function.needs:
            return ""
        return self.exemplar_hash if "votes" in function.needs else self.gold_hash

    @cached_property
    def exemplar_hash(self) -> str:
        """Hash of the exemplars and their votes; the ledger remembers it for its inputs."""
        known: dict[str, str] = {}
        for raw in self.days:
            day = str(raw.partition)
            found = [self.known_votes(function, day) for function in self.plain_functions]
            complete = [version for version in found if version is not None]
            if len(complete) == len(found):
                known[day] = votes_key(complete)
        return self.ws.ledger.derive(
            exemplars_key(self.gold_key, known),
            lambda: fingerprint(
                {"gold": tables.hash_rows(self.gold), "votes": self.exemplar_votes.tolist()}
            ),
        )

    def known_votes(self, function: LabelingFunction, day: str) -> ArtifactVersion | None:
        """Return the votes in use of a day, unless of other classes or other rows than its own."""
        version = self.ws.ledger.latest(self.spec.name, "votes", function.name, day)
        if version is None or not of_taxonomy(self.spec, version):
            return None
        now = {raw.content_hash for raw in self.days if raw.partition == day}
        return version if now <= {one.content_hash for one in version.inputs} else None

    def latest_votes(self, function: LabelingFunction, day: str) -> ArtifactVersion:
        version = self.known_votes(function, day)
        if version is None:
            # a function that is new, or votes on new classes, has not seen that day: let it
            other = _Day(self.ws, self.project, day, self.run, self.log)
            version = other.votes_of(function, [])
        return version

    def column(self, version: ArtifactVersion) -> pa.Table:
        try:
            return self.ws.columns.get(str(version.location["column"]))
        except CorruptArtifactError as error:
            # what reuse did not see, such as a file under another name: gone, the next run makes it
            self.ws.set_aside(version, error)
            raise

    def matrix(self, versions: list[ArtifactVersion]) -> tuple[Votes, ClassSets]:
        """Return votes [rows, functions] of today, and the sets among them."""
        columns, sets = unite([from_table(self.column(version)) for version in versions])
        if not columns:
            return np.zeros((self.rows.num_rows, 0), np.int8), sets
        return np.stack(columns, axis=1), sets

    # --- label model ------------------------------------------------------------------------

    def label_model(self, today: list[ArtifactVersion]) -> tuple[ArtifactVersion, LabelModelFit]:
        names = [function.name for function in self.functions]
        versions: dict[str, list[ArtifactVersion]] = {self.day: today}
        for raw in self.days[:-1]:
            past = [self.known_votes(function, str(raw.partition)) for function in self.functions]
            complete = [version for version in past if version is not None]
            if len(complete) == len(past):
                versions[str(raw.partition)] = complete
        before = model_before(self.ws, self.spec, self.day)
        recipe = label_model_recipe(
            self.spec,
            self.day,
            [version for day in sorted(versions) for version in versions[day]],
            self.gold_hash,
            before,
        )

        def compute(lease: Lease) -> Produced:
            fit, rows = fit_window(self.ws, self.spec, self.days, versions, self.gold, before)
            body = fit.to_json()
            return Produced(
                fingerprint(body),
                {"label_model": body},
                rows=rows,
                metrics={
                    "evidence": fit.evidence,
                    "functions": function_table(
                        self.ws, self.spec, self.days, self.gold, versions, self.column
                    ),
                    "calibration": fit.calibration,
                    "reason": fit.reason,
                    "copies": [[names[f] for f in group] for group in fit.copies],
                    "misfit": fit.misfit,
                    "gold": gold_budget(self.ws, self.spec, self.day, self.gold),
                },
            )

        version = tables.build(self.ws, recipe, compute, self.run).version
        return version, LabelModelFit.from_json(version.location["label_model"])

    # --- the stage --------------------------------------------------------------------------

    def votes(self) -> list[ArtifactVersion]:
        """Return the votes of every function on this day, in the order of the functions."""
        made: dict[str, ArtifactVersion] = {}
        for function in sorted(self.functions, key=lambda one: bool(one.needs)):
            self.log.progress(f"votes {self.day}", len(made), len(self.functions), function.name)
            reads = self.plain_functions if "votes" in function.needs else []
            made[function.name] = self.votes_of(function, [made[one.name] for one in reads])
        return [made[function.name] for function in self.functions]

    def build(self) -> StageResult:
        versions = self.votes()
        model_version, model = self.label_model(versions)
        recipe = weak_labels_recipe(self.spec, self.day, self.raw, versions, model_version)

        def compute(lease: Lease) -> Produced:
            return self._write(recipe, lease, versions, model_version, model)

        return stage_result(tables.build(self.ws, recipe, compute, self.run))

    def _write(
        self,
        recipe: Recipe,
        lease: Lease,
        versions: list[ArtifactVersion],
        model_version: ArtifactVersion,
        model: LabelModelFit,
    ) -> Produced:
        classes = list(self.spec.taxonomy.classes)
        votes, sets = self.matrix(versions)
        labeled: npt.NDArray[np.bool_] = np.any(votes != ABSTAIN, axis=1)
        probabilities = model.predict(votes, self.rows["source"].to_pylist(), sets)
        majority = majority_vote(votes, len(classes), sets=sets)
        cells = cells_of(votes, sets, self.spec.taxonomy.sets, len(classes))
        label, confidence = best(probabilities, cells)
        data = pa.table(
            {
                **{name: self.rows[name] for name in tables.WEAK_LABELS.names[:6]},
                "votes": tables.lists(votes, pa.int8()),
                "majority": tables.lists(majority, pa.float32()),
                "probabilities": tables.lists(probabilities, pa.float32()),
                "label": pa.array(
                    [classes[b] if ok else None for b, ok in zip(label, labeled, strict=True)],
                    pa.string(),
                ),
                "confidence": pa.array(confidence, pa.float32()),
                "labeled": pa.array(labeled),
                **({"cells": tables.cells(cells)} if self.spec.taxonomy.sets else {}),
            },
            schema=tables.weak_labels_schema(self.spec),
        )
        ref = tables.write(self.ws, recipe, lease, "weak_labels", data)
        return Produced(
            content_hash=ref.content_hash,
            location=tables.location({"weak_labels": ref}),
            rows=ref.rows,
            bytes=sum(file.bytes for file in ref.files),
            parts=tables.parts_by(data, "split"),
            metrics={
                **day_summary(self.spec, data, labeled, versions, model_version),
                "functions": [function.name for function in self.functions],
                **({"class_sets": sets.to_json()} if sets.sets else {}),
            },
        )
