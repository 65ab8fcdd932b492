"""The single entry: every project below `assets/defs`, as one Dagster code location.

The web server, the daemon and every run import this module, so it must stay light: no torch,
transformers, peft, evidently or mlflow at import.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import dagster as dg

from assets.resources import WorkspaceResource
from assets.sensors import failed_runs
from fm_platform.sources.connectors import options_problems
from fm_platform.sources.mapping import mapping_problems
from fm_platform.spec.load import discover, load_spec, named_as_folder
from fm_platform.workspace import project_root


def load_definitions(root: Path) -> dg.Definitions:
    """Return the definitions of all projects below `root/assets/defs`, with resources.

    Raises:
        SpecError: If a project file has mistakes; it lists all of them.
    """
    return dg.Definitions.merge(_components(root), shared_definitions())


def shared_definitions() -> dg.Definitions:
    """Return what all projects share."""
    return dg.Definitions(
        resources={"workspace": WorkspaceResource()},
        sensors=[failed_runs],
        # A step in its own process costs about eight CPU-seconds of imports; in process, 0.1.
        executor=dg.in_process_executor,
    )


def _components(root: Path) -> dg.Definitions:
    # `dg.load_from_defs_folder` would ask for a pyproject.toml next to the folder; projects may
    # live outside the checkout, so the same component tree is built over the folder itself.
    folder = root / "assets" / "defs"
    if not folder.is_dir():
        return dg.Definitions()
    for file in discover(root):
        # says every mistake with its line, before Dagster names the first one
        load_spec(file, [options_problems, mapping_problems, named_as_folder(file)])
    module = ModuleType("assets.defs")
    module.__file__ = None
    module.__path__ = [str(folder)]
    return dg.ComponentTree.from_module(module, root).build_defs()


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of this code location."""
    return load_definitions(project_root())
