"""`watch`: the profile of a day, and what of it differs from what the champion was trained on.

Four kinds of artifacts, each of a day's size: `profile` (of the day's rows), `answers` (what the
champion says of the profile's sample), `reference` (one for each champion) and `findings` (with
the alerts). A daily run reads the day, the reference, and the findings of its window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import MissingArtifactError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.label_model import LabelModelFit
from fm_platform.lineage import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    TABLE_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.lineage.ledger import Lease
from fm_platform.monitoring import (
    Alert,
    Costs,
    Evidence,
    Judging,
    Measured,
    Profile,
    Reference,
    Settings,
    Watch,
    alerts_of,
    detect,
    measure_day,
    measured,
    past_of,
    reference_of,
    with_answers,
    with_embeddings,
)
from fm_platform.monitoring.life import Rulings, rulings
from fm_platform.spec.alerts import Alerts
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.canary import compare
from fm_platform.stages.common import Reporter, StageResult, stage_result, summary
from fm_platform.stages.embeddings import Embeddings
from fm_platform.stages.versus import build_versus, predecessor
from fm_platform.stages.watch_model import asked, asked_rows, day_of, told_to, weighed
from fm_platform.stages.watch_words import facts, told_findings, told_profile
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace

SAMPLE_ROWS = 384
JUDGED_ROWS = 512
"""Further rows of each source and day that people labeled: the champion answers them, too."""
HISTORY_DAYS = 56
_MEASURING = ("fm_platform.monitoring.measure",)
_JUDGING = (
    "fm_platform.monitoring.alerts",
    "fm_platform.monitoring.detect",
    "fm_platform.stages.watch_model",
    "fm_platform.stages.watch_words",
)
_PACKAGES = (*MODEL_PACKAGES, *TABLE_PACKAGES, "scipy", "scikit-learn", "py3langid")


def build_watch(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> StageResult:
    """Make the profile of a day and, where there is a champion, its findings and alerts.

    Raises:
        MissingArtifactError: If `cleaned` of that day is not built.
    """
    return Watcher(ws, project, run, log).build(day)


def alerts_on(ws: Workspace, project: str, day: str) -> list[Alert]:
    """Return the alerts of a day, the gravest first; none where it was not looked at."""
    version = ws.ledger.latest(project, "findings", "findings", day)
    return [] if version is None else [Alert.from_json(one) for one in version.location["alerts"]]


def _thresholds(policy: Alerts | None) -> dict[str, float]:
    """Return the points from which an alert is so grave, where the project declares others."""
    usual, own = Alerts(), policy or Alerts()
    names = ("low", "medium", "high")
    changed = any(getattr(own, name) != getattr(usual, name) for name in names)
    return {name: float(getattr(own, name)) for name in names} if changed else {}


def _ruled(said: Rulings) -> dict[str, Any]:
    """Return what people said of causes, where they did: the verdict of a day follows it."""
    told = {"accepted": sorted(said.accepted), "shifts": dict(sorted(said.shifts.items()))}
    return {"rulings": told} if any(told.values()) else {}


class Watcher:
    """The builds of monitoring for one project; what days share is read once."""

    def __init__(
        self, ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
    ) -> None:
        self.ws, self.project, self.spec = ws, project, project.spec
        self.run, self.log = run, log
        self.embeddings = Embeddings(ws, project, run, log)

    def build(self, day: str) -> StageResult:
        """Return the findings of a day, or its profile where there is no champion yet."""
        profile = self.profile(day)
        champion = self.ws.ledger.alias(self.spec.name, "champion")
        if champion is None:
            return stage_result(profile)
        reference = self.reference(champion)
        if reference is None:
            return stage_result(profile)
        if self.spec.alerts is not None:
            before = predecessor(self.ws, self.spec.name)
            if before is not None:
                build_versus(self, profile.version, champion, before)
        compare(self, profile.version, champion)
        return self.findings(day, profile.version, champion, reference)

    # --- the day ------------------------------------------------------------------------------

    def profile(self, day: str) -> Any:
        """Build or reuse the profile of a day."""
        raw, weak, cleaned = (self._of(stage, day) for stage in ("raw", "weak_labels", "cleaned"))
        columns = sorted(set(self.spec.contract.columns) - {"text"})
        config = {
            "columns": columns, "classes": list(self.spec.taxonomy.classes),
            "functions": list(weak.metrics["functions"]), "sample_rows": SAMPLE_ROWS,
            "judged_rows": JUDGED_ROWS,
            "max_tokens": self.spec.training.max_tokens, "exemplars": self._embeds(),
        }  # fmt: skip
        base = Input("base_model", "base_model", None, self.embeddings.base.content_hash)
        inputs = [raw.as_input("raw"), weak.as_input("weak_labels"), cleaned.as_input("cleaned")]
        recipe = self.recipe("profile", "profile", day, (*inputs, base), config, _MEASURING)

        def compute(lease: Lease) -> Produced:
            self.log.info(f"profile of {day}")
            made = measure_day(self.spec.name, day, self.rows(raw, weak), self.watch(weak))
            made = replace(made, facts=facts(raw, weak, cleaned))
            if made.sample is not None and made.sample.num_rows:
                made = with_embeddings(made, self._vectors(raw, made.sample))
            table = made.to_table()
            content = self.ws.columns.put(table)
            return Produced(
                content, {"column": content}, raw.rows, table.nbytes, told_profile(made)
            )

        return tables.build(self.ws, recipe, compute, self.run)

    def rows(self, raw: ArtifactVersion, weak: ArtifactVersion) -> pa.Table:
        """Return the rows of a day as they are measured: raw, votes, and people's labels."""
        rows = tables.read(self.ws, raw, "raw")
        labels = tables.read(
            self.ws, weak, "weak_labels", ["row_id", "votes", "label", "confidence"]
        )
        gold = tables.read(self.ws, raw, "gold", ["row_id", "label"])
        for table, names in (
            (labels, {"votes": "votes", "label": "label", "confidence": "confidence"}),
            (gold, {"label": "gold"}),
        ):
            spot = pc.index_in(rows["row_id"], value_set=table["row_id"].combine_chunks())
            for column, name in names.items():
                rows = rows.append_column(name, table[column].take(spot.combine_chunks()))
        return rows

    def watch(self, weak: ArtifactVersion) -> Watch:
        """Return what is looked at."""
        columns = sorted(set(self.spec.contract.columns) - {"text"})
        return Watch(
            tuple(columns), tuple(self.spec.taxonomy.classes), tuple(weak.metrics["functions"]),
            SAMPLE_ROWS, JUDGED_ROWS,
        )  # fmt: skip

    def _embeds(self) -> bool:
        """Whether labeling embeds every row anyway."""
        return any(function.kind == "exemplars" for function in self.spec.labeling.functions)

    def _vectors(self, raw: ArtifactVersion, sample: pa.Table) -> npt.NDArray[np.float32]:
        ids = sample["row_id"].to_pylist()
        if self._embeds():
            found = self.embeddings.of_rows(raw, set(ids))
            return np.stack([found[row] for row in ids])
        from fm_platform.training.embed import embed

        limit = self.spec.training.max_tokens
        return embed(self.embeddings.base, sample["text"].to_pylist(), max_tokens=limit)

    def _of(self, stage: str, day: str) -> ArtifactVersion:
        version = self.ws.ledger.latest(self.spec.name, stage, stage, day)
        if version is None:
            raise MissingArtifactError(
                f"{stage} of {day} is not built", next_step=f"fm run {self.spec.name} --from {day}"
            )
        return version

    def _read(self, version: ArtifactVersion) -> pa.Table:
        return self.ws.columns.get(str(version.location["column"]))

    def _answered(self, champion: ArtifactVersion, sample: pa.Table) -> pa.Table:
        """Return a sample with the champion's probabilities."""
        told = asked(self.ws, self.project, champion)(sample["text"].to_pylist())
        column = pa.array(list(np.asarray(told, np.float32)), pa.list_(pa.float32()))
        return sample.append_column("champion", column)

    def answered(self, version: ArtifactVersion, champion: ArtifactVersion) -> Profile:
        """Return a day's profile with what the champion says of its sample; asked once."""
        profile = Profile.from_table(self._read(version))
        if profile.sample is None or not profile.sample.num_rows:
            return profile
        inputs = (version.as_input("profile"), champion.as_input("champion"))
        config = {"max_tokens": self.spec.training.max_tokens}
        recipe = self.recipe(
            "answers",
            "champion",
            version.partition,
            inputs,
            config,
            ("fm_platform.training.predict",),
        )

        def compute(lease: Lease) -> Produced:
            table = self._answered(champion, asked_rows(profile)).select(["row_id", "champion"])
            content = self.ws.columns.put(table)
            return Produced(content, {"column": content}, table.num_rows, table.nbytes)

        told = self._read(tables.build(self.ws, recipe, compute, self.run).version)
        return with_answers(told_to(profile, told["champion"]))

    # --- the reference ------------------------------------------------------------------------

    def reference(
        self, champion: ArtifactVersion
    ) -> tuple[Reference, ArtifactVersion, list[Measured]] | None:
        """Return what the champion was trained on, by ledger; None where no day is left of it."""
        wanted = sorted(
            {str(i.partition) for i in champion.inputs if i.role == "data" and i.partition}
        )
        versions, missing = [], []
        for day in wanted:
            try:
                versions.append(self.profile(day).version)
            except MissingArtifactError:
                missing.append(day)
        if not versions:
            return None
        title = f"champion {champion.name}@{champion.content_hash[:8]}"
        inputs = (*(v.as_input("profile") for v in versions), champion.as_input("champion"))
        recipe = self.recipe(
            "reference", "reference", None, inputs, {"days": wanted, "missing": missing}, _JUDGING
        )

        def compute(lease: Lease) -> Produced:
            self.log.info(f"reference of {title}: {len(versions)} days")
            daily = [Profile.from_table(self._read(version)) for version in versions]
            made = reference_of(champion.content_hash, title, daily, missing)
            if made.profile.sample is not None and made.profile.sample.num_rows:
                answers = self._answered(champion, asked_rows(made.profile))["champion"]
                whole = with_answers(told_to(made.profile, answers))
                days = [with_answers(day_of(one, whole)) for one in made.daily]
                made = replace(made, profile=whole, daily=tuple(days))
            past = [one.to_json() for one in past_of(made)]
            table = replace(made.profile, facts={"past": past}).to_table()
            content = self.ws.columns.put(table)
            numbers = {
                "days": len(versions),
                "missing_days": len(missing),
                "rows": made.profile.rows["all"],
            }
            return Produced(
                content,
                {"column": content},
                made.profile.rows["all"],
                table.nbytes,
                summary(numbers),
            )

        version = tables.build(self.ws, recipe, compute, self.run).version
        whole = Profile.from_table(self._read(version))
        past = [Measured.from_json(one) for one in whole.facts["past"]]  # type: ignore[attr-defined]
        reference = Reference(champion.content_hash, title, whole, (), tuple(missing))
        return reference, version, past

    # --- findings -----------------------------------------------------------------------------

    def findings(
        self, day: str, profile: ArtifactVersion, champion: ArtifactVersion,
        reference: tuple[Reference, ArtifactVersion, list[Measured]],
    ) -> StageResult:  # fmt: skip
        """Build or reuse the findings of a day."""
        known, version, past = reference
        before = [
            one
            for one in window(self.ws, self.spec, "findings", "findings", day, HISTORY_DAYS)
            if str(one.partition) < day and one.location.get("reference") == version.content_hash
        ]
        weak, raw = self._of("weak_labels", day), self._of("raw", day)
        model = self.ws.ledger.latest(self.spec.name, "label_model", "label_model", day)
        inputs = (
            profile.as_input("profile"), version.as_input("reference"),
            champion.as_input("champion"), *(one.as_input("findings") for one in before),
        )  # fmt: skip
        said = rulings(self.ws.ledger.alert_events(self.spec.name))
        config = {"history": HISTORY_DAYS, **_thresholds(self.spec.alerts), **_ruled(said)}
        recipe = self.recipe("findings", "findings", day, inputs, config, _JUDGING)

        policy = self.spec.alerts or Alerts()

        def compute(lease: Lease) -> Produced:
            today = self.answered(profile, champion)
            later = [
                Measured.from_json(json.loads(self._read(o)["measured"][0].as_py())) for o in before
            ]
            earlier = sorted([*past, *later], key=lambda one: one.day)
            compared = measured(today, known)
            found = detect(compared, earlier, known, Settings(history_days=HISTORY_DAYS))
            other = weighed(self.ws, self.spec.name, today.sources, known.profile.days, day)
            evidence = Evidence(
                today, known, self.rows(raw, weak), self.watch(weak), self._reads(), other
            )
            labeler = LabelModelFit.from_json(model.location["label_model"]) if model else None
            judging = Judging(
                labeler=None if labeler is None else labeler.predict,
                answer=asked(self.ws, self.project, champion), models=(known.title,),
                costs=self._costs(), low=policy.low, medium=policy.medium, high=policy.high,
            )  # fmt: skip
            alerts = alerts_of(found, evidence, judging) if found else []
            compared = replace(compared, flagged=frozenset(f.key for f in found))
            table = pa.table({"measured": [json.dumps(compared.to_json(), sort_keys=True)]})
            column = self.ws.columns.put(table)
            told = [alert.to_json() for alert in alerts]
            content = fingerprint({"measured": column, "alerts": told})
            if found:
                self._report(content, evidence)
            return Produced(
                content,
                {"column": column, "alerts": told, "reference": version.content_hash},
                today.rows.get("all", 0), table.nbytes,
                told_findings(day, found, alerts, known, len(compared.compared), said),
            )  # fmt: skip

        return stage_result(tables.build(self.ws, recipe, compute, self.run))

    def _reads(self) -> dict[str, str]:
        """Return labeling function -> the structured column that it reads."""
        columns = set(self.spec.contract.columns) - {"text"}
        return {
            function.name: str(column)
            for function in self.spec.labeling.functions
            if (column := getattr(function, "column", None)) in columns
        }

    def _costs(self) -> Costs:
        experts: dict[str, list[str]] = {}
        for expert in self.spec.experts:
            for source in expert.sources:
                experts.setdefault(source, []).append(expert.name)
        return Costs(experts={source: tuple(names) for source, names in sorted(experts.items())})

    def _report(self, content: str, evidence: Evidence) -> None:
        """Let Evidently render the samples of both sides, as `reports/<hash>/report.html`."""
        from fm_platform.evaluation.report import write_report

        sides = []
        for sample in (evidence.reference.profile.sample, evidence.day.sample):
            if sample is None or not sample.num_rows:
                return
            names = ["source", "text", *evidence.watch.columns]
            answered_ = np.asarray(sample["champion"].combine_chunks().flatten(), np.float32)
            best = answered_.reshape(sample.num_rows, -1).argmax(axis=1)
            classes = pa.array([evidence.watch.classes[i] for i in best], pa.string())
            sides.append(sample.select(names).append_column("answer", classes))
        write_report(sides[0], sides[1], self.ws.home.reports / content[:16] / "report.html")

    def recipe(
        self, kind: str, name: str, day: str | None, inputs: Sequence[Input],
        config: Mapping[str, Any], modules: Sequence[str],
    ) -> Recipe:  # fmt: skip
        """Return the recipe of an artifact of monitoring."""
        return Recipe(
            self.spec.name, kind, name, day, tuple(inputs), code_fingerprint(*modules), config,
            environment_fingerprint(_PACKAGES, True), 0,
        )  # fmt: skip
