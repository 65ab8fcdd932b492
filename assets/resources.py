"""The one resource: a workspace on FM_HOME."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from fm_platform.home import Home, branch_from_environment

if TYPE_CHECKING:
    from fm_platform.workspace import Workspace


class WorkspaceResource(dg.ConfigurableResource):  # type: ignore[type-arg] # gives itself
    """Opens the stores, ledger and tracker of one FM_HOME.

    Attributes:
        home: Folder to use; empty means the environment's FM_HOME, or `.fm`.
    """

    home: str = ""

    def open(self) -> Workspace:
        """Return the workspace.

        Raises:
            HomeError: If the folder cannot be written.
        """
        # Delta, Arrow and SQLAlchemy are needed by steps, not by whoever loads the definitions.
        from fm_platform.workspace import Workspace

        return Workspace.open(
            Home(Path(self.home).resolve(), branch_from_environment()) if self.home else None
        )
