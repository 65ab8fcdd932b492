"""Waiting is bounded, errors are ours, settings are safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fm_platform.errors import RegistryUnavailableError, TrackingError
from fm_platform.tracking.client import (
    CircuitBreaker,
    Connection,
    prepare_environment,
    probe,
    without_secrets,
)


def test_settings_refuse_pickle_and_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")

    prepare_environment(5)

    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"


def test_probe_of_a_refused_port_is_retryable(refused_url: str) -> None:
    with pytest.raises(RegistryUnavailableError) as caught:
        probe(refused_url, 1)

    assert caught.value.retryable
    assert "spool" in str(caught.value)


def test_database_files_need_no_probe(tmp_path: Path) -> None:
    probe(f"sqlite:///{tmp_path / 'none.db'}", 0.1)


def test_used_up_budget_stops_before_the_next_call(tmp_path: Path) -> None:
    connection = Connection(f"sqlite:///{tmp_path / 'm.db'}", 5, budget_s=0)

    with pytest.raises(RegistryUnavailableError, match="cannot be reached"):
        connection.call(lambda: 1)
    assert connection.upload(lambda: 1) == 1


def test_refusal_of_mlflow_is_no_outage(tmp_path: Path) -> None:
    connection = Connection(f"sqlite:///{tmp_path / 'm.db'}", 5, budget_s=10)

    with pytest.raises(TrackingError, match="refused") as caught:
        connection.call(connection.client.get_run, "0" * 32)
    assert not isinstance(caught.value, RegistryUnavailableError)


def test_breaker_opens_for_a_while_and_only_for_its_server(tmp_path: Path) -> None:
    breaker = CircuitBreaker(tmp_path / "b.json", open_s=60)
    assert breaker.reason("http://a") is None

    breaker.open("http://a", "refused\nsecond line")

    assert "refused" in (breaker.reason("http://a") or "")
    assert breaker.reason("http://b") is None
    assert CircuitBreaker(tmp_path / "b.json", open_s=0).reason("http://a") is None
    breaker.close()
    breaker.close()
    assert breaker.reason("http://a") is None


@pytest.mark.parametrize("note", ["", "{", "[]", '{"uri": "http://a"}', '{"at": 99e99, "uri": 1}'])
def test_damaged_note_does_not_keep_anybody_away(tmp_path: Path, note: str) -> None:
    (tmp_path / "b.json").write_text(note)

    assert CircuitBreaker(tmp_path / "b.json", 60).reason("http://a") is None


def test_without_secrets_keeps_the_rest() -> None:
    assert without_secrets("https://me:p@ss@host/a@b") != "https://me:p@ss@host/a@b"
    assert "p@ss" not in without_secrets("postgresql://me:p@ss@host/db")
    assert without_secrets("http://host/a@b") == "http://host/a@b"
