from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.errors import FencedError
from fm_platform.lineage import leases
from fm_platform.lineage.ledger import Ledger


def test_newer_holder_fences_the_older(ledger: Ledger) -> None:
    old = ledger.acquire_lease("shop/raw/raw/2026-01-01", "run-1")
    ledger.check_lease(old)
    new = ledger.acquire_lease("shop/raw/raw/2026-01-01", "run-2")

    ledger.check_lease(new)
    with pytest.raises(FencedError, match="fenced: another run took over") as caught:
        ledger.check_lease(old)
    assert "of run-2" in str(caught.value)
    assert new.epoch > old.epoch


def test_same_run_taking_it_again_fences_its_own_older_try(ledger: Ledger) -> None:
    old = ledger.acquire_lease("k", "run-1")
    ledger.acquire_lease("k", "run-1")

    with pytest.raises(FencedError):
        ledger.check_lease(old)


def test_keys_do_not_touch_each_other(ledger: Ledger) -> None:
    one = ledger.acquire_lease("one", "a")
    ledger.acquire_lease("two", "b")

    ledger.check_lease(one)


def test_lease_given_back_is_no_right_to_write(ledger: Ledger) -> None:
    lease = ledger.acquire_lease("k", "a")
    ledger.release_lease(lease)

    with pytest.raises(FencedError, match="took over") as caught:
        ledger.check_lease(lease)
    assert "given back" in str(caught.value)
    assert ledger.held_leases() == []


def test_giving_back_an_old_lease_leaves_the_new_one(ledger: Ledger) -> None:
    old, new = (ledger.acquire_lease("k", who) for who in "ab")

    ledger.release_lease(old)

    ledger.check_lease(new)


def test_lease_of_a_ledger_begun_anew_is_not_older(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ledger.acquire_lease("k", "a")
    monkeypatch.setattr(leases.time, "time_ns", lambda: (before.epoch + 5) * 1_000_000)

    assert Ledger.open("sqlite://").acquire_lease("k", "a").epoch > before.epoch


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**44), min_size=2, max_size=12))
def test_epoch_grows_whatever_the_clock_does(clock: list[int]) -> None:
    ledger = Ledger.open("sqlite://")
    epochs = []
    with pytest.MonkeyPatch.context() as patch:
        for milliseconds in clock:
            patch.setattr(leases.time, "time_ns", lambda ms=milliseconds: ms * 1_000_000)
            epochs.append(ledger.acquire_lease("k", "a").epoch)

    assert all(older < newer for older, newer in pairwise(epochs))


def test_lease_says_which_process_holds_it(ledger: Ledger, ledger_url: str) -> None:
    script = (
        "from fm_platform.lineage.ledger import Ledger; "
        f"Ledger.open({ledger_url!r}).acquire_lease('dead', 'run-9')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    ledger.acquire_lease("mine", "run-1")

    dead, mine = ledger.held_leases()

    assert (dead.key, dead.holder, dead.is_stale) == ("dead", "run-9", True)
    assert (mine.key, mine.pid, mine.is_stale) == ("mine", os.getpid(), False)
