from __future__ import annotations

import pytest

from tests.stages.small import Built, build_small


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The small project; a test that damages something leaves it whole again."""
    return build_small(tmp_path_factory.mktemp("small"), tmp_path_factory.mktemp("home"))
