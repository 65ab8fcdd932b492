"""Build a version and everything under it again, elsewhere, and compare every content hash.

The recipes are replayed in the order in which they were built, each with the project as it was
declared at that moment, in a workspace that holds nothing else. So each stage finds what it found
then, and reads what it built itself, never the stored bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fm_platform.errors import FMError, MissingArtifactError, StoreError
from fm_platform.lineage import ArtifactVersion, RunContext, choosing_base
from fm_platform.lineage.causal_recipes import CODE as CAUSAL_CODE
from fm_platform.lineage.causes import Before, differences
from fm_platform.lineage.fingerprints import code_fingerprint
from fm_platform.lineage.recipes import code_version, environment_of, works_as
from fm_platform.lineage.records import Slot
from fm_platform.lineage.refs import version_name
from fm_platform.lineage.universes import Arrangement
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.annotations import KIND, save
from fm_platform.stages.base_choice import as_made, build_base_choice, with_chosen_base
from fm_platform.stages.causal import build_causal_adapter
from fm_platform.stages.causal_evaluation import build_causal_evaluation
from fm_platform.stages.causal_model import build_causal_model
from fm_platform.stages.choice import build_choice, settled
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.common import Reporter
from fm_platform.stages.continuing import build_replay
from fm_platform.stages.definition import read_definition
from fm_platform.stages.embeddings import Embeddings
from fm_platform.stages.evaluation import build_evaluation
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.raw import build_raw
from fm_platform.stages.reproduce.closure import everything_under
from fm_platform.stages.reproduce.kept import lost_source, take_kept
from fm_platform.stages.reproduce.scratch import restore, scratch_workspace
from fm_platform.stages.silent import with_rows
from fm_platform.stages.unit import build_unit
from fm_platform.stages.weak_labels import build_again, build_weak_labels
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace

EQUAL, KEPT, DIFFERS, NOT_BUILT = "equal", "kept", "differs", "not built"
_RUN = RunContext(asked_by="reproduce")
Build = Callable[[Workspace, LoadedProject, ArtifactVersion, Reporter], object]
_BUILD: Mapping[str, Build] = {
    "raw": lambda ws, p, v, log: build_raw(ws, p, str(v.partition), _RUN, log),
    "unit": lambda ws, p, v, log: build_unit(ws, p, _RUN, log),
    "embeddings": lambda ws, p, v, log: _embed(ws, p, v, log),
    "votes": lambda ws, p, v, log: build_again(ws, p, v, _RUN, log),
    "label_model": lambda ws, p, v, log: build_again(ws, p, v, _RUN, log),
    "weak_labels": lambda ws, p, v, log: build_weak_labels(ws, p, str(v.partition), _RUN, log),
    "cleaned": lambda ws, p, v, log: build_cleaned(ws, p, str(v.partition), _RUN, log),
    "replay": lambda ws, p, v, log: _keep_rows(ws, p, v),
    "choice": lambda ws, p, v, log: _choose(ws, p, v, log),
    "start": lambda ws, p, v, log: build_start(ws, p, _RUN, log),
    "adapter": lambda ws, p, v, log: build_adapter(ws, p, v.name, _RUN, log),
    "merged_model": lambda ws, p, v, log: build_merged_model(
        ws, with_rows(ws, settled(ws, p)), _RUN, log
    ),
    "evaluation": lambda ws, p, v, log: build_evaluation(
        ws, with_rows(ws, as_made(ws, p)), _RUN, log, twin=v
    ),
}
_BUILD_CAUSAL: Mapping[str, Build] = {
    **_BUILD,
    "adapter": lambda ws, p, v, log: build_causal_adapter(ws, p, v.name, _RUN, log),
    "merged_model": lambda ws, p, v, log: build_causal_model(ws, with_rows(ws, p), _RUN, log),
    "evaluation": lambda ws, p, v, log: build_causal_evaluation(ws, with_rows(ws, p), _RUN, log),
}


def _choose(ws: Workspace, project: LoadedProject, version: ArtifactVersion, log: Reporter) -> None:
    if version.name == choosing_base.NAME:  # measured models are facts, and not made again
        build_base_choice(ws, project, _RUN, log, version.config["past"])
    else:
        build_choice(ws, with_chosen_base(ws, project), _RUN, log)


def _embed(ws: Workspace, project: LoadedProject, version: ArtifactVersion, log: Reporter) -> None:
    raw = ws.ledger.latest(version.project, "raw", "raw", version.partition)
    if raw is not None:
        Embeddings(ws, project, _RUN, log).version(raw)


def _keep_rows(ws: Workspace, project: LoadedProject, version: ArtifactVersion) -> None:
    spec, day = project.spec, str(version.partition)
    days = window(ws, spec, "cleaned", "cleaned", day, spec.training.window_days)
    build_replay(ws, spec, days, _RUN)


@dataclass(frozen=True)
class Plan:
    """What is to be built again, and what is known before it starts.

    Attributes:
        target: The version asked for.
        versions: It and everything under it, in the order in which they were built.
        differences: What the recorded builds had that this process has not: packages, processor,
            code; in words.
        damaged: Name of an artifact -> what is wrong with its stored bytes.
        removed: Name of an artifact -> when retention removed its bytes.
    """

    target: ArtifactVersion
    versions: tuple[ArtifactVersion, ...]
    differences: tuple[str, ...]
    damaged: Mapping[str, str]
    removed: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """One artifact: the recorded content hash and the one that was built again.

    A day of raw whose source is not what it was is `kept`: its rows, which were kept, were taken
    instead, and their hash compared.
    """

    name: str
    state: str
    recorded: str
    found: str | None
    why: str = ""


@dataclass(frozen=True)
class Reproduction:
    """What came of it; artifacts after the first one that differs are not compared."""

    plan: Plan
    compared: tuple[Compared, ...] = field(default=())

    @property
    def first_difference(self) -> Compared | None:
        """The first artifact, in build order, that is not what was recorded."""
        return next((c for c in self.compared if c.state not in (EQUAL, KEPT)), None)

    @property
    def kept(self) -> tuple[Compared, ...]:
        """The days of raw whose rows were taken from the store, and why."""
        return tuple(c for c in self.compared if c.state == KEPT)

    @property
    def equal(self) -> bool:
        """Whether every artifact has its recorded content hash, built again and as stored.

        Bytes that retention removed are no difference: they are what was built again.
        """
        return self.first_difference is None and not self.plan.damaged


def make_plan(ws: Workspace, target: ArtifactVersion) -> Plan:
    """Return what building `target` again takes; every stored byte under it is verified.

    Raises:
        FMError: If it is of a kind that no stage builds.
    """
    if target.kind not in _BUILD:
        raise FMError(
            f"{version_name(target)} is recorded, not built",
            expected="a table of a day, a label model, a model or an evaluation",
        )
    versions = [v for v in everything_under(ws, target) if v.kind in _BUILD]
    damaged, removed, gone = {}, {}, ws.ledger.removed()
    for version in versions:
        try:
            ws.verify(version)
        except MissingArtifactError as error:
            if version.id in gone:
                removed[version_name(version)] = gone[version.id].removed_at
            else:
                damaged[version_name(version)] = str(error).splitlines()[0]
        except StoreError as error:
            damaged[version_name(version)] = str(error).splitlines()[0]
    return Plan(target, tuple(versions), tuple(_changed(ws, versions)), damaged, removed)


def reproduce(
    ws: Workspace, plan: Plan, scratch: Path, project: LoadedProject | None, log: Reporter
) -> Reproduction:
    """Build everything again in `scratch`; stop at the first artifact that differs.

    Rows of a day whose source is not what it was are taken from where they were kept.

    Args:
        ws: Where the versions are recorded; only read.
        plan: From `make_plan`.
        scratch: An empty folder.
        project: The project of today, for rows and base model; None where it is gone.
        log: Told each artifact.
    """
    again = scratch_workspace(scratch / "home", ws.home)
    projects: dict[int, LoadedProject] = {}
    twins: dict[int, int] = {}  # a version -> the one that was built again
    done: list[Compared] = []
    for number, version in enumerate(plan.versions, start=1):
        log.progress("reproduce", number, len(plan.versions), version_name(version))
        then = _declared(ws, version, scratch / "projects", project, projects)
        _put_in_use(ws, again, version, twins)
        if version.kind == "evaluation":
            _put_champion(again, version, plan)
        elif version.kind == "cleaned":
            _put_reviews(ws, again, version)
        elif any(item.role == "annotations" for item in version.inputs):
            _put_annotations(ws, again, version, then)
        lost = lost_source(ws, then, version) if version.kind == "raw" else ""
        if lost and (gone := take_kept(ws, again, then, version, _RUN)):
            why = f"{lost}, and its kept rows cannot be read: {gone}"
            done.append(Compared(version_name(version), NOT_BUILT, version.content_hash, None, why))
            break
        if not lost:
            build = _BUILD_CAUSAL if then.spec.task == "causal" else _BUILD
            build[version.kind](again, then, version, log)
        compared, built = _compare(again, version)
        if lost and compared.state == EQUAL:
            compared = replace(compared, state=KEPT, why=lost)
        done.append(compared)
        if built is None or compared.state not in (EQUAL, KEPT):
            break
        twins[version.id] = built
    return Reproduction(plan, tuple(done))


def _put_in_use(
    ws: Workspace, again: Workspace, version: ArtifactVersion, twins: Mapping[int, int]
) -> None:
    """Put in use what was in use when a version was made: a rollback builds nothing, and counts."""
    project = version.project
    was = ws.ledger.slots_in_use(project, at=version.created_at)
    now = again.ledger.slots_in_use(project)
    uses: dict[Slot, int | None] = {
        slot: twins[past] for slot, past in was.items()
        if past in twins and now.get(slot) != twins[past]
    }  # fmt: skip
    # what was made on the way to something else, and was not there yet
    uses.update({slot: None for slot in now if slot not in was and slot[0] != "spec"})
    if not uses:
        return
    lease = again.ledger.acquire_lease(f"{project}/-universe", "reproduce")
    change = Arrangement(now, uses, {}, "reproduce", {}, version_name(version), "reproduce")
    again.ledger.arrange(project, change, lease)
    again.ledger.release_lease(lease)


def _declared(
    ws: Workspace,
    version: ArtifactVersion,
    folder: Path,
    now: LoadedProject | None,
    known: dict[int, LoadedProject],
) -> LoadedProject:
    """Return the project as it was declared when `version` was built."""
    recorded = ws.ledger.latest(version.project, "spec", "spec", at=version.created_at)
    if recorded is None:
        if now is None:
            raise FMError(
                f"what {version.project} declared on {version.created_at:%Y-%m-%d} is not recorded",
                expected=f"a definition in the ledger, or the folder of {version.project}",
            )
        return now
    if recorded.id not in known:
        definition = read_definition(ws, recorded)
        known[recorded.id] = restore(definition, folder / recorded.content_hash[:16], now)
    return known[recorded.id]


def _put_champion(again: Workspace, version: ArtifactVersion, plan: Plan) -> None:
    """Name the champion that an evaluation compared with: a decision, not a computation."""
    wanted = [i.content_hash for i in version.inputs if i.role == "champion"]
    now = again.ledger.alias(version.project, "champion")
    if not wanted or (now is not None and now.content_hash == wanted[0]):
        return
    for built in again.ledger.versions(version.project, "merged_model", "merged_model"):
        if built.content_hash == wanted[0]:
            again.ledger.set_alias(
                version.project, "champion", built.id, expected=now.id if now else None,
                reason=f"as it was for {version_name(plan.target)}", actor="reproduce",
            )  # fmt: skip


def _put_reviews(ws: Workspace, again: Workspace, version: ArtifactVersion) -> None:
    """Record the verdicts that stood when a day was cleaned."""
    stood = ws.ledger.reviews(version.project, str(version.partition), until=version.created_at)
    for review in stood:
        again.ledger.record_reviews(
            version.project, [review.action], review.verdict, review.reason, review.actor
        )


def _put_annotations(
    ws: Workspace, again: Workspace, version: ArtifactVersion, then: LoadedProject
) -> None:
    """Keep the answers of people that were there when their votes were made."""
    slots = {v.slot for v in ws.ledger.versions(version.project, KIND)}
    for _, name, part in sorted(slots, key=repr):
        was = ws.ledger.latest(version.project, KIND, name, part, at=version.created_at)
        if was is not None:
            save(again, then.spec, tables.read(ws, was, KIND).to_pylist(), RunContext())


def _compare(again: Workspace, version: ArtifactVersion) -> tuple[Compared, int | None]:
    """Return how a version compares with what was built, and the id of its twin."""
    name, recorded = version_name(version), version.content_hash
    kind, artifact, partition = version.slot
    found = again.ledger.versions(version.project, kind, artifact, partition)
    if not found:
        return Compared(name, NOT_BUILT, recorded, None, "nothing asked for it"), None
    twins = [built.id for built in found if built.content_hash == recorded]
    if twins:
        return Compared(name, EQUAL, recorded, recorded), max(twins)
    last = again.ledger.get(max(found, key=lambda built: built.id).id)
    same = last.recipe_hash == version.recipe_hash
    why = (
        "the same recipe gave another content"
        if same
        else differences(Before.of(version), last, again.ledger.document)
    )
    return Compared(name, DIFFERS, recorded, last.content_hash, why), last.id


def _changed(ws: Workspace, versions: Sequence[ArtifactVersion]) -> Iterator[str]:
    """Yield in words what this process has not, that the builds had; each once."""
    from fm_platform.lineage.environment import relevant_environment
    from fm_platform.lineage.fingerprints import described

    told: set[str] = set()
    for version in versions:
        kind = works_as(version.kind, (item.role for item in version.inputs))
        code, environment = code_version(kind, version.config), environment_of(kind, version.config)
        if version.config.get("task") == "causal":
            code = code_fingerprint(*CAUSAL_CODE[version.kind])
        lines: list[str] = []
        if version.environment != environment:
            before = ws.ledger.document(version.environment)
            lines += _environments(before, relevant_environment(environment))
        if version.code != code:
            today = {hash_: body for hash_, _, body in described([code])}
            before = ws.ledger.document(version.code) or {}
            now = today.get(code) or {}
            modules = sorted(m for m in {*before, *now} if before.get(m) != now.get(m))
            named = f": {', '.join(modules)}" if before and modules else ""
            lines.append(f"the code of {version.kind} is another{named}")
        for line in lines:
            if line not in told:
                told.add(line)
                yield line


def _environments(before: Any, now: Any) -> Iterator[str]:
    """Yield e.g. `numpy 2.4.5 then, 2.4.6 now`."""
    if not before or not now:
        yield "the environment is another (the recorded one is not described)"
        return
    flat = [{**e, **e.get("packages", {})} for e in (before, now)]
    for key in sorted((flat[0].keys() | flat[1].keys()) - {"packages"}):
        then, today = flat[0].get(key), flat[1].get(key)
        if then != today:
            yield f"{key} {then or 'not installed'} then, {today or 'not installed'} now"
