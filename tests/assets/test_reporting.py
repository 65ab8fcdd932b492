from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from assets.reporting import StepReporter, listening
from tests.assets.conftest import stage_result

KEY = dg.AssetKey(["shop", "raw"])


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


class Recorder:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def started(self, *words: Any) -> None:
        self.heard.append(("started", *words))

    def progress(self, *words: Any) -> None:
        self.heard.append(("progress", *words))

    def said(self, *words: Any) -> None:
        self.heard.append(("said", *words))

    def finished(self, *words: Any) -> None:
        self.heard.append(("finished", *words))


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_log_holds_few_of_many_steps(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100, 200))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    reporter = StepReporter(log, KEY)  # type: ignore[arg-type]

    for step in range(1, 41):
        reporter.progress("train", step, 40, "loss 0.1")

    assert log.lines[0] == "train: 1 of 40, loss 0.1"
    assert log.lines[-1] == "train: 40 of 40, loss 0.1"
    assert len(log.lines) == 5


def test_a_listener_hears_every_step(log: Log) -> None:
    recorder = Recorder()
    reporter = StepReporter(log, KEY)  # type: ignore[arg-type]

    with listening(recorder):
        for step in range(1, 6):
            reporter.progress("train", step, 5)
        reporter.info("a sentence")
    reporter.progress("train", 1, 5)

    assert [words[0] for words in recorder.heard] == ["progress"] * 5 + ["said"]


def test_the_log_says_what_was_made_and_why(log: Log) -> None:
    StepReporter(log, KEY).finished("2024-01-01", stage_result(reused=True, reason="same recipe"))  # type: ignore[arg-type]

    assert log.lines == ["shop/raw 2024-01-01: reused, same recipe"]
