"""Dagster's storage on a PostgreSQL server that lives for these tests only."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.instance import open_instance
from assets.webserver import for_pages
from fm_platform.home import Home
from tests.lineage.test_postgresql import BINARIES, server  # noqa: F401 # a fixture

pytestmark = pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL server installed")


def test_the_web_server_can_read_what_postgresql_holds(
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    pytest.importorskip("dagster_postgres")
    home = Home(tmp_path / "home").ensure()
    url = server.format(name="postgres")
    settings = f'storage:\n  postgres:\n    postgres_url: "{url}"\n'
    (home.dagster / "dagster.yaml").write_text(settings)

    with open_instance(home) as instance:
        for_pages(instance)

        assert instance.get_runs() == []
