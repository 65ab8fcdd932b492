"""A workspace that is thrown away: nothing outside its folder is read or written by its stores."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.definition import Definition, project_files, write_project
from fm_platform.store.tables import TableStore
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.tracking.entities import Published

_MADE_AGAIN = ("columns", "models", "states")  # parts of the cache that hold results


class ScratchHome(Home):
    """A home whose databases lie in its folder, whatever the environment names."""

    @property
    def ledger_url(self) -> str:
        """SQLite in this folder."""
        return f"sqlite:///{self.root / 'ledger.db'}"

    @property
    def tracking_uri(self) -> str:
        """SQLite in this folder."""
        return f"sqlite:///{self.mlflow / 'mlflow.db'}"


class Untracked:
    """A tracker that publishes nothing: what is built again is known already."""

    def __getattr__(self, name: str) -> Any:
        def published(*_: object, **__: object) -> Published:
            from fm_platform.tracking.entities import Published

            return Published(reason="built again in a scratch place")

        return published


class ScratchWorkspace(Workspace):
    """The stores of a scratch home; nothing is sent to MLflow."""

    @cached_property
    def tables(self) -> TableStore:
        """Delta tables in this home, whatever FM_LAKE_URL says."""
        return TableStore(str(self.home.lake), {})

    @cached_property
    def tracker(self) -> Any:
        """Takes every record and drops it."""
        return Untracked()


def scratch_workspace(folder: Path, real: Home) -> ScratchWorkspace:
    """Return an empty workspace in `folder` that shares the fetched archives of `real`."""
    home = ScratchHome(folder)
    home.prove()
    for path in sorted(real.cache.iterdir()) if real.cache.is_dir() else []:
        if path.name not in _MADE_AGAIN and not (home.cache / path.name).exists():
            (home.cache / path.name).symlink_to(path, target_is_directory=path.is_dir())
    return ScratchWorkspace(home)


def restore(definition: Definition, folder: Path, now: LoadedProject | None) -> LoadedProject:
    """Return the project as it was declared: today's folder where it still is that.

    What is not part of a definition (rows, a base model) is linked from today's folder.

    Args:
        definition: What was declared then.
        folder: A new folder to write into, where the project differs today.
        now: The project of today; None where it is gone.
    """
    if now is not None and project_files(now) == dict(definition.files):
        return now
    folder.mkdir(parents=True, exist_ok=True)
    if now is not None:
        _link(now.directory, folder, {Path(name) for name in definition.files})
    return write_project(definition, folder)


def _link(source: Path, target: Path, written: set[Path]) -> None:
    """Link what is in `source`, but no Python, no project file, and nothing that is written."""
    for path in sorted(source.iterdir()):
        own = {Path(*p.parts[1:]) for p in written if p.parts[0] == path.name and len(p.parts) > 1}
        if path.is_dir() and own:
            (target / path.name).mkdir(exist_ok=True)
            _link(path, target / path.name, own)
        elif Path(path.name) not in written and path.suffix != ".py" and path.name[0] != "_":
            (target / path.name).symlink_to(path, target_is_directory=path.is_dir())


def discard(folder: Path) -> None:
    """Remove a scratch folder; what it links to stays."""
    shutil.rmtree(folder)
