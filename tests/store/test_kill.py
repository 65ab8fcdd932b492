"""R1: a writer killed at any moment loses nothing it acknowledged, tears and doubles nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable

from fm_platform.store import log as delta_log
from fm_platform.store.fsck import check_tables
from fm_platform.store.tables import TableStore
from tests.store.rows import serial_day, serial_hash, serial_rows, write_serially
from tests.support.kill import Acks, moments, race, run_and_kill


class Witness:
    """Follows one table from kill to kill; looks only at what is new since the last look."""

    def __init__(self, root: Path) -> None:
        self.store = TableStore(str(root / "lake"))
        self.acks = Acks(root / "acks")
        self.committed: dict[int, tuple[str, int]] = {}
        self._seen = -1

    @property
    def last_acknowledged(self) -> int:
        lines = self.acks.lines()
        return int(lines[-1].split()[0]) if lines else 1

    def look(self) -> None:
        """Check the versions that came since the last look, and the whole of the acks."""
        for version in delta_log.commit_versions(self.store.storage, "t"):
            if version <= self._seen:
                continue
            assert version == self._seen + 1, "a gap in the log"
            self._seen = version
            actions = delta_log.read_actions(self.store.storage, "t", version)
            stored = delta_log.stored_commit(actions, version)
            if stored is None:
                continue  # the commit that made the table
            number = stored.commit.number
            assert number not in self.committed, "doubled"
            assert stored.ref.rows == serial_rows(number).num_rows
            assert stored.ref.content_hash == serial_hash(number), "torn"
            self.store.verify(stored.ref)
            self.committed[number] = (stored.ref.content_hash, version)
        for line in self.acks.lines():
            acknowledged, content, at = line.split()
            assert self.committed.get(int(acknowledged)) == (content, int(at)), "lost"

    def compare_table(self) -> None:
        """Check the rows that any reader of the Delta table sees."""
        newest = {serial_day(number): number for number in sorted(self.committed)}
        table = DeltaTable(self.store.storage.uri("t")).to_pyarrow_table()
        rows = sorted(zip(table["day"].to_pylist(), table["row_id"].to_pylist(), strict=True))
        expected = sorted(
            (day, row_id)
            for day, number in newest.items()
            for row_id in serial_rows(number)["row_id"].to_pylist()
        )
        assert rows == expected


def kill_and_resume(root: Path, kills: int, seed: int) -> Witness:
    witness = Witness(root)
    lake, acks = str(root / "lake"), str(root / "acks")
    for moment in moments(seed, kills, longest_s=0.08):
        start = witness.last_acknowledged  # delivered again, on purpose
        run_and_kill(
            write_serially, (lake, acks, start, start + 10_000), moment,
            progress=lambda: len(witness.acks.lines()),
        )  # fmt: skip
        witness.look()
    start = witness.last_acknowledged
    race(write_serially, [(lake, acks, start, start + 6)])
    witness.look()
    witness.compare_table()
    assert witness.last_acknowledged == start + 5
    return witness


def test_kills_lose_tear_and_double_nothing(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, kills=15, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_kills_lose_tear_and_double_nothing(tmp_path: Path) -> None:
    witness = kill_and_resume(tmp_path, kills=200, seed=2)

    findings = check_tables(witness.store, deep=True, grace_s=0.0)
    assert {finding.kind for finding in findings} <= {"leftover_file"}
