from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.universe.worlds import DAYS, EDITED, World, moment


@pytest.fixture(scope="session")
def _history(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, datetime]:
    """Two days; then a function is edited and a third day comes."""
    world = World.make(tmp_path_factory.mktemp("history"))
    world.run(DAYS[:2])
    then = moment()
    world.declare(EDITED)
    world.run()
    return world, then


@pytest.fixture
def history(_history: tuple[World, datetime], tmp_path: Path) -> tuple[World, datetime]:
    """A copy of it, and the moment before the edit."""
    return _history[0].copy(tmp_path), _history[1]
