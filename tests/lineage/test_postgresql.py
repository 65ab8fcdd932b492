"""The same ledger on a PostgreSQL server that lives for these tests only, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fm_platform.errors import FencedError, LedgerBusyError, NonReproducibleError
from fm_platform.hashing import sha256_hex
from fm_platform.lineage import schema
from fm_platform.lineage.journal import Journal
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.rebuild import compare, restore
from tests.lineage.factory import EARLY, make_produced, make_recipe, record
from tests.lineage.simulated import Simulation, make_spec
from tests.lineage.test_aliases import race_of_promoters
from tests.lineage.test_database import same_recipe, take_leases, write_versions
from tests.lineage.test_journal import a_history
from tests.support.kill import Acks, race


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "pg_ctl").exists()), None)


BINARIES = _binaries()
# the server refuses to run as root: take the user of the distribution's package, or nobody
USER = ("postgres", "nobody") if os.geteuid() == 0 else ()

pytestmark = pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL server installed")


def _user() -> str | None:
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in USER if name in names), None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """URL prefix of a server without network; its databases are thrown away."""
    pytest.importorskip("psycopg2")
    assert BINARIES is not None
    user = _user()
    if os.geteuid() == 0 and user is None:
        pytest.skip("no user to run the server as")
    # short: the path of a socket has at most 107 characters; outside tmp_path: root's is private
    folder = Path(tempfile.mkdtemp(prefix="fm-pg-"))
    if user is not None:
        shutil.chown(folder, user)

    def run(*words: str) -> None:
        subprocess.run(
            [str(BINARIES / words[0]), *words[1:]], check=True, capture_output=True, user=user,
            cwd=folder, timeout=120,
        )  # fmt: skip

    data = folder / "data"
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    try:
        run("initdb", "-D", str(data), "-U", "fm", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://fm@/{{name}}?host={folder}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """URL of a new database."""
    import sqlalchemy as sa

    name = f"t{sha256_hex(request.node.name.encode())[:12]}"
    engine = sa.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    engine.dispose()
    return server.format(name=name)


def test_record_reuse_and_history(url: str) -> None:
    ledger = Ledger.open(url)
    recipe = make_recipe(config={"b": [1, 2.5], "a": {"x": None}}, seed=2**40)
    made = record(ledger, recipe, make_produced(parts={"mail": "ab"}))
    other = record(ledger, make_recipe(code="other"), make_produced("other"))
    ledger.use(recipe, made)

    assert made.created_at == EARLY + timedelta(seconds=2)
    assert (made.config, made.parts, made.inputs) == (
        recipe.config, {"mail": "ab"}, recipe.inputs,
    )  # fmt: skip
    assert ledger.latest("shop", "raw", "raw", "2026-01-01") == made
    uses = ledger.uses("shop", "raw", "raw", "2026-01-01")
    assert [use.version_id for use in uses] == [made.id, other.id, made.id]
    then = ledger.latest("shop", "raw", "raw", "2026-01-01", at=uses[1].since)
    assert then == other
    assert [v.id for v in ledger.find(made.content_hash[:6])] == [made.id]


def test_second_content_is_reported(url: str) -> None:
    ledger = Ledger.open(url)
    record(ledger, make_recipe())

    with pytest.raises(NonReproducibleError):
        record(ledger, make_recipe(), make_produced("other"))

    assert len(ledger.conflicts("shop")) == 1


def test_eight_processes_create_and_write_at_once(url: str) -> None:
    race(write_versions, [(url, process, 5) for process in range(8)])

    made = Ledger.open(url).versions("shop")
    assert sorted(version.number for version in made) == list(range(1, 41))


def test_same_recipe_from_many_processes_is_one_version(url: str, tmp_path: Path) -> None:
    Ledger.open(url)
    race(same_recipe, [(url, tmp_path / "out", "same") for _ in range(6)])

    assert Acks(tmp_path / "out").lines() == ["1"] * 6


def test_promotion_race_has_one_winner_a_round(url: str, tmp_path: Path) -> None:
    race_of_promoters(Ledger.open(url), url, tmp_path / "acks", 5)


def test_leases_fence_and_no_epoch_is_given_twice(url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(url)
    old = ledger.acquire_lease("one key", "old")
    race(take_leases, [(url, tmp_path / "epochs", 10) for _ in range(4)])

    assert len(set(Acks(tmp_path / "epochs").lines())) == 40
    with pytest.raises(FencedError):
        ledger.check_lease(old)


def test_status_of_a_project(url: str) -> None:
    project = Simulation(Ledger.open(url), make_spec(days=3))
    project.run()
    assert project.plan() == []

    project.edit("plain_0", "other")

    assert {row.why for row in project.plan() if row.action == "build"} == {
        "labeling function plain_0 changed"
    }


def test_server_that_is_away_is_a_retryable_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerBusyError) as caught:
        Ledger.open(f"postgresql+psycopg2://fm:secret@/none?host={tmp_path}")

    assert caught.value.retryable
    assert "secret" not in str(caught.value)


def test_history_on_disk_restores_it_in_both_kinds_of_database(
    url: str, server: str, tmp_path: Path
) -> None:
    folder = tmp_path / "history"
    ledger = Ledger.open(url, folder)
    a_history(ledger)
    elsewhere = Ledger.open("sqlite://")
    restore(Journal(folder), elsewhere)
    assert compare(ledger, elsewhere) == []
    for table in reversed(schema.metadata.sorted_tables):
        with ledger.engine.begin() as connection:
            table.drop(connection)

    restore(Journal(folder), Ledger.open(url))
    again = Ledger.open(url, folder)
    new = record(again, make_recipe(partition="2026-01-09"), make_produced("new"))

    assert new.id == elsewhere.versions("shop")[-1].id + 1
    other = Ledger.open("sqlite://")
    restore(Journal(folder), other)
    assert compare(again, other) == []


def test_a_loss_that_is_not_a_number_does_not_stop_the_record(url: str) -> None:
    metrics = {"numbers": {"loss": float("nan")}}

    made = record(Ledger.open(url), make_recipe(), make_produced(metrics=metrics))

    assert made.metrics == {"numbers": {"loss": "NaN"}}
