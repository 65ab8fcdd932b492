"""The stores, the ledger and the tracker of one FM_HOME, opened together."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fm_platform.errors import (
    BranchError,
    FMError,
    HomeError,
    LedgerBusyError,
    MissingArtifactError,
)
from fm_platform.home import Home, branch_from_environment
from fm_platform.lineage.database import connect_to_read
from fm_platform.lineage.fingerprints import git_state
from fm_platform.lineage.ledger import ArtifactVersion, Ledger, RunContext
from fm_platform.lineage.manifests import Manifests
from fm_platform.lineage.refs import version_name
from fm_platform.spec.load import LoadedProject, discover
from fm_platform.store.columns import ColumnStore
from fm_platform.store.models import ModelStore
from fm_platform.store.ragged import RaggedStore
from fm_platform.store.tables import TableRef, TableStore

if TYPE_CHECKING:
    from fm_platform.tracking.entities import Published
    from fm_platform.tracking.records import AnyRecord
    from fm_platform.tracking.tracker import Tracker

_S3_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY_ID", "AWS_ALLOW_HTTP", "AWS_CONDITIONAL_PUT", "AWS_ENDPOINT_URL",
        "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Workspace:
    """Everything below one FM_HOME.

    Example:
        ws = Workspace.open()
        ws.ledger.latest("sentiment", "merged_model", "merged_model")
    """

    home: Home
    is_writable: bool = True

    @classmethod
    def open(cls, home: Home | None = None) -> Workspace:
        """Open the workspace of `home`, or of FM_HOME.

        Raises:
            HomeError: If the folder cannot be written.
        """
        return cls((home or Home.from_environment()).ensure())

    @classmethod
    def to_read(cls) -> Workspace:
        """Open the workspace of FM_HOME for questions, also where nothing can be written.

        Raises:
            HomeError: If there is no home yet, and none can be made.
        """
        home = Home.from_environment()
        try:
            return cls.open(home)
        except HomeError:
            if not home.lake.is_dir():
                raise
        return cls(home, is_writable=False)

    @cached_property
    def ledger(self) -> Ledger:
        """The record of all versions."""
        if not self.is_writable:
            ledger = Ledger(connect_to_read(self.home.ledger_url))
            ledger.ensure_readable()
            return ledger.on_branch(self.home.branch)
        ledger = Ledger.open(self.home.ledger_url, self.home.history, self.manifests)
        return ledger.on_branch(self.home.branch)

    @cached_property
    def manifests(self) -> Manifests:
        """The ledger's rows beside the tables."""
        return Manifests(lambda: self.tables.storage)

    @cached_property
    def tables(self) -> TableStore:
        """Delta tables, under FM_LAKE_URL or FM_HOME/lake."""
        root = os.environ.get("FM_LAKE_URL", str(self.home.lake))
        return TableStore(root, object_store_options(root, os.environ))

    @cached_property
    def models(self) -> ModelStore:
        """Content-addressed models, each tensor once."""
        key = self.home.keys / "manifest.key"
        return ModelStore(self.home.models, key, self.home.cache / "models")

    @cached_property
    def columns(self) -> ColumnStore:
        """Content-addressed columns: votes and embeddings."""
        return ColumnStore(self.home.cache / "columns")

    @cached_property
    def states(self) -> RaggedStore:
        """Content-addressed states of frozen layers."""
        return RaggedStore(self.home.cache / "states")

    @cached_property
    def tracker(self) -> Tracker:
        """MLflow runs and registry. Importing it is left until something is logged."""
        from fm_platform.tracking.tracker import Tracker

        return Tracker(
            uri=self.home.tracking_uri,
            artifact_root=self.home.mlflow / "artifacts",
            spool_dir=self.home.mlflow / "spool",
            models=self.models,
            on_published=self._note_run,
        )

    def _note_run(self, record: AnyRecord, published: Published) -> None:
        """Note in the ledger the MLflow run of a version whose record had waited in the spool."""
        if published.run_id is None:
            return
        version = self.ledger.lookup(record.recipe_hash)
        if version is not None:
            self.ledger.note_mlflow_run(version.id, published.run_id)

    def table_ref(self, version: ArtifactVersion, table: str) -> TableRef:
        """Return where `version` keeps its rows of `table`.

        Raises:
            FMError: If it has no such table.
            MissingArtifactError: If retention removed them.
        """
        try:
            ref = TableRef.from_json(version.location["tables"][table])
        except KeyError:
            raise FMError(
                f"{version.name} {version.partition or ''} holds no table {table!r}",
                found=sorted(version.location.get("tables", {})),
            ) from None
        storage = self.tables.storage
        if storage.is_local and any(storage.size(f"{ref.table}/{f.path}") is None
                                    for f in ref.files):  # fmt: skip
            self._say_if_removed(version)
        return ref

    def model_path(self, version: ArtifactVersion) -> Path:
        """Return the verified folder of a model artifact.

        Raises:
            CorruptArtifactError: If a byte differs.
            MissingArtifactError: If it is not there; says so where retention removed it.
        """
        try:
            return self.models.open(str(version.location["model"]))
        except MissingArtifactError:
            self._say_if_removed(version)
            raise

    def _say_if_removed(self, version: ArtifactVersion) -> None:
        gone = self.ledger.removal(version.id)
        if gone is not None:
            name = version_name(version)
            raise MissingArtifactError(
                f"the bytes of {name} were removed by fm gc",
                where=version.content_hash,
                found=f"removed on {gone.removed_at:%Y-%m-%d %H:%M} UTC by {gone.actor}",
                next_step=f"fm reproduce {name} --keep FOLDER builds it again from its recipe",
            )

    def verify(self, version: ArtifactVersion) -> None:
        """Check the bytes of everything that `version` keeps.

        Raises:
            CorruptArtifactError: If a byte differs.
            MissingArtifactError: If a file is gone.
        """
        for ref in version.location.get("tables", {}).values():
            self.tables.verify(TableRef.from_json(ref))
        if "model" in version.location:
            self.models.verify(str(version.location["model"]))
        if "column" in version.location:
            self.columns.get(str(version.location["column"]))
        if "states" in version.location:
            self.states.verify(str(version.location["states"]))

    def set_aside(self, version: ArtifactVersion, error: Exception) -> None:
        """Move the damaged files of `version` aside as evidence, so that it can be rebuilt."""
        for ref in version.location.get("tables", {}).values():
            self.tables.quarantine(TableRef.from_json(ref))
        # what is not there at all leaves no evidence
        with suppress(MissingArtifactError):
            if "model" in version.location:
                self.models.quarantine(str(version.location["model"]))
            if "column" in version.location:
                self.columns.quarantine(str(version.location["column"]))
            if "states" in version.location:
                self.states.quarantine(str(version.location["states"]))

    @contextmanager
    def building(self) -> Iterator[None]:
        """Hold off the removal of versions while something is built or reused."""
        with self._turn() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield

    @contextmanager
    def retiring(self, patience_s: float = 10.0) -> Iterator[None]:
        """Hold off all builds of this FM_HOME while versions are removed.

        Raises:
            LedgerBusyError: If builds went on for so long, here or on another machine.
        """
        with self.alone(patience_s):
            running = [lease for lease in self.ledger.held_leases() if not lease.is_stale]
            if running:
                raise _busy(f"{running[0].key} on {running[0].host}, pid {running[0].pid}")
            yield

    @contextmanager
    def alone(self, patience_s: float = 10.0) -> Iterator[None]:
        """Hold off all builds of this FM_HOME on this machine.

        Raises:
            LedgerBusyError: If builds went on for so long.
        """
        with self._turn() as handle:
            deadline = time.monotonic() + patience_s
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise _busy("a build of this FM_HOME") from None
                    time.sleep(0.05)
            yield

    @contextmanager
    def _turn(self) -> Iterator[BinaryIO]:
        self.home.work.mkdir(parents=True, exist_ok=True)
        with (self.home.work / ".builds.lock").open("a+b") as handle:
            yield handle


def _busy(who: str) -> LedgerBusyError:
    return LedgerBusyError(
        "this has to wait while something is built",
        found=who,
        next_step="wait until the run is over, then try again",
    )


def object_store_options(root: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the storage options of a lake: AWS_* variables for `s3://`, none for a folder.

    Without `AWS_CONDITIONAL_PUT` the commits ask for it: of two writers one must lose.

    Example:
        >>> object_store_options("s3://lake", {"AWS_REGION": "eu-1", "PATH": "/bin"})
        {'AWS_CONDITIONAL_PUT': 'etag', 'AWS_REGION': 'eu-1'}
    """
    if not root.startswith(("s3://", "s3a://")):
        return {}
    given = {name: value for name, value in sorted(environment.items()) if name in _S3_VARIABLES}
    return {"AWS_CONDITIONAL_PUT": "etag", **given}


def run_context(asked_by: str, dagster_run_id: str | None = None) -> RunContext:
    """Return who asks for a build, with the commit of the code in the current folder."""
    commit, dirty = git_state(Path.cwd())
    return RunContext(
        asked_by=asked_by, dagster_run_id=dagster_run_id, git_commit=commit, git_dirty=dirty
    )


def project_root() -> Path:
    """Return the folder that holds `assets/defs`: FM_PROJECTS, or the checkout; or a branch's.

    Raises:
        BranchError: If FM_BRANCH names a branch that is not there.
    """
    if branch_from_environment() is not None:
        home = Home.from_environment()
        if not (home.own / "assets").is_dir():
            raise BranchError(
                f"there is no branch {home.branch!r}", where=home.own,
                next_step="fm branch list shows those that are there",
            )  # fmt: skip
        return home.own
    return Path(os.environ.get("FM_PROJECTS", Path(__file__).resolve().parents[1]))


def project_names() -> list[str]:
    """Return the names of the projects, sorted."""
    return [file.parent.name for file in discover(project_root())]


def find_project(name: str, root: Path | None = None) -> LoadedProject:
    """Load the project called `name`, from below `root` or from `project_root()`.

    Raises:
        FMError: If there is none; the message lists those that exist.
        SpecError: If its file has mistakes.
    """
    root = root or project_root()
    files = {file.parent.name: file for file in discover(root)}
    if name not in files:
        raise FMError(
            f"there is no project {name!r}",
            where=root / "assets" / "defs",
            expected=", ".join(sorted(files)) or "a folder with a defs.yaml",
            next_step=f"fm init {name} --from data.csv makes one",
        )
    from fm_platform.sources.connectors import options_problems
    from fm_platform.sources.mapping import mapping_problems
    from fm_platform.spec.load import load_spec, named_as_folder

    checks = [options_problems, mapping_problems, named_as_folder(files[name])]
    return load_spec(files[name], checks)


def find_classifier(name: str) -> LoadedProject:
    """Load the project called `name`, for what only a project that labels its rows has.

    Raises:
        FMError: If there is none, or it is a causal one.
        SpecError: If its file has mistakes.
    """
    project = find_project(name)
    if project.spec.task == "causal":
        raise FMError(
            f"{name} is a causal project: its rows are neither labeled nor cleaned",
            next_step=f"fm results {name} shows what is measured, fm predict asks the model",
        )
    return project


def project_or_only(name: str | None) -> str:
    """Return the project that is meant where none may be named: the only one, or sentiment.

    Raises:
        FMError: If there are several, none of them sentiment, or none at all.
    """
    listed = project_names()
    if name is not None:
        return name
    if len(listed) == 1 or "sentiment" in listed:
        return listed[0] if len(listed) == 1 else "sentiment"
    raise FMError(
        "there are several projects" if listed else "there is no project yet",
        found=", ".join(listed) or None,
        next_step="name one with --project" if listed else "fm init NAME --from data.csv makes one",
    )
