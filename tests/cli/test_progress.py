from __future__ import annotations

import sys

import pytest

from fm_platform.cli.progress import TerminalReporter


def test_a_pipe_sees_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalReporter().progress("hidden states", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_one_line_that_goes_when_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    reporter = TerminalReporter()
    reporter.progress("hidden states", 1_000, 2_000)
    reporter.progress("hidden states", 2_000, 2_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "hidden states: 1,000 of 2,000" in err
    assert err.endswith("\r\x1b[2K")
