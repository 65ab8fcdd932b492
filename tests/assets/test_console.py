from __future__ import annotations

import dagster as dg
import pytest

from assets.console import ConsoleListener, Outcome, summary_line
from tests.assets.conftest import stage_result

RAW = dg.AssetKey(["shop", "raw"])
MAIL = dg.AssetKey(["shop", "adapters", "mail"])


def outcome(reused: bool) -> Outcome:
    return Outcome("shop/raw", None, reused, "", "r", "c", 1)


def test_lines_of_a_long_training_are_few(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(float(second) for second in range(10_000))
    monkeypatch.setattr("assets.console.time.monotonic", lambda: next(clock))
    with ConsoleListener() as listener:
        listener.started(MAIL, None, 1)
        for step in range(1, 101):
            listener.progress(MAIL, "train mail", step, 100, "loss 0.2")
        listener.finished(MAIL, None, stage_result("mail", None))

    lines = capfd.readouterr().err.strip().splitlines()
    assert 5 <= len(lines) <= 15
    assert lines[0] == "shop/adapters/mail: train mail: 9 of 100 loss 0.2"
    assert lines[-1].startswith("shop/adapters/mail: built (first build)")


def test_markup_in_messages_is_shown_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    with ConsoleListener() as listener:
        listener.said(RAW, "read [red]file[/red] [1]")

    assert capfd.readouterr().err.strip() == "shop/raw: read [red]file[/red] [1]"


def test_quiet_says_nothing_and_counts_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    with ConsoleListener(quiet=True) as listener:
        listener.started(RAW, "2024-01-01", 1)
        listener.finished(RAW, "2024-01-01", stage_result(reused=True))

    assert capfd.readouterr().err == ""
    assert [found.reused for found in listener.outcomes] == [True]


def test_a_step_that_is_tried_again_counts_each_artifact_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with ConsoleListener() as listener:
        listener.started(RAW, "2024-01-01", 2)
        listener.finished(RAW, "2024-01-01", stage_result())
        for day in ("2024-01-01", "2024-01-02"):
            listener.started(RAW, day, 2)
            listener.finished(RAW, day, stage_result(day=day, reused=True))

    assert [found.reused for found in listener.outcomes] == [True, True]
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("reused", "said"),
    [
        ([True, True], "nothing to do: all 2 artifacts are fresh (3 s)"),
        ([True, False], "1 artifacts built, 1 fresh and reused (3 s)"),
        ([], "nothing to do: all 0 artifacts are fresh (3 s)"),
    ],
)
def test_summary(reused: list[bool], said: str) -> None:
    assert summary_line([outcome(r) for r in reused], 3.2) == said
