"""R4: the run worker dies, its step lives on while the retry runs; exactly one of them commits."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pyarrow as pa
import pytest

from fm_platform.errors import FencedError
from fm_platform.lineage.build import build
from fm_platform.lineage.leases import Lease
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import Produced, RunContext
from fm_platform.store.tables import Commit, TableStore
from tests.lineage.factory import make_recipe
from tests.support.kill import Acks, forkserver

DAY = "2026-01-01"
RECIPE = make_recipe()
ROWS = pa.record_batch({"day": [DAY] * 3, "text": ["a", "b", "c"]})
ORDERS = ("orphan first", "retry first", "together")


def step(folder: Path, who: str, go: str) -> None:
    """Build one partition; the commit waits for the file `go`."""
    said = Acks(folder / "said")
    ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
    store = TableStore(str(folder / "lake"))

    def compute(lease: Lease) -> Produced:
        said.append(f"{who} computing")
        wait_for(lambda: (folder / go).exists())
        ref = store.write_partition(
            "shop/raw", ROWS.schema, [ROWS], column="day", value=DAY,
            commit=Commit("shop|raw|" + DAY, lease.epoch, {"holder": who}),
            fence=lambda: ledger.check_lease(lease),
        )  # fmt: skip
        return Produced(ref.content_hash, {"tables": {"raw": ref.to_json()}}, ref.rows)

    try:
        built = build(
            ledger, RECIPE, verify=lambda _v: None, compute=compute,
            run=RunContext(dagster_run_id=who),
        )  # fmt: skip
    except FencedError as error:
        said.append(f"{who} fenced: {error.message}")
    else:
        said.append(f"{who} committed {built.reason}")


def worker(folder: Path) -> None:
    """A run worker: its step is a child that outlives it."""
    if os.fork() == 0:
        step(folder, "orphan", "go-orphan")
        os._exit(0)
    time.sleep(300)


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened for two minutes")
        time.sleep(0.005)


def one_zombie(folder: Path, order: str) -> None:
    folder.mkdir()
    said = Acks(folder / "said")
    first = forkserver().Process(target=worker, args=(folder,))
    first.start()
    wait_for(lambda: "orphan computing" in said.lines())
    first.kill()
    first.join()
    retry = forkserver().Process(target=step, args=(folder, "retry", "go-retry"))
    retry.start()
    wait_for(lambda: "retry computing" in said.lines())

    def ended(who: str) -> bool:
        return any(line.split()[0] == who and "computing" not in line for line in said.lines())

    for who in {"orphan first": ["orphan", "retry"], "retry first": ["retry", "orphan"],
                "together": ["orphan", "retry"]}[order]:  # fmt: skip
        (folder / f"go-{who}").touch()
        if order != "together":
            wait_for(lambda who=who: ended(who))
    wait_for(lambda: ended("orphan") and ended("retry"))
    retry.join()

    lines = said.lines()
    commits = TableStore(str(folder / "lake")).commits("shop/raw")
    ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
    (version,) = ledger.versions("shop")
    assert [line for line in lines if line.startswith("orphan fenced: ")]
    assert [line for line in lines if line.startswith("retry committed")]
    assert [stored.commit.identity["holder"] for stored in commits] == ["retry"]
    assert version.dagster_run_id == "retry"
    assert ledger.held_leases() == []


@pytest.mark.parametrize("number", range(5))
def test_orphan_step_is_fenced_and_the_retry_commits_once(tmp_path: Path, number: int) -> None:
    one_zombie(tmp_path / "home", ORDERS[number % 3])


@pytest.mark.slow
def test_orphan_step_is_fenced_50(tmp_path: Path) -> None:
    rng = random.Random(4)
    for number in range(50):
        one_zombie(tmp_path / str(number), rng.choice(ORDERS))
