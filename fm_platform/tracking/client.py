"""One way to reach MLflow: safe settings, bounded waiting, errors in our own words."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fm_platform.errors import FMError, RegistryUnavailableError, TrackingError
from fm_platform.store.files import atomic_write

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_RETRIES = 2
_ALWAYS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_UNLESS_SET = {
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare_environment(timeout_s: float) -> None:
    """Set what MLflow reads from the environment: no telemetry, no pickle, short waits.

    MLflow's own defaults wait about 250 s for a server that is not there.
    """
    os.environ.update(_ALWAYS)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, int(timeout_s)))
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(_RETRIES)


def is_remote(uri: str) -> bool:
    """Return whether a tracking address is a server (and not a database file of our own)."""
    return uri.startswith(("http://", "https://"))


def without_secrets(text: str) -> str:
    """Return `text` with the user names and passwords of addresses left out.

    Example:
        >>> without_secrets("https://me:secret@host/x")
        'https://host/x'
    """
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def probe(uri: str, timeout_s: float) -> None:
    """Ask a tracking server whether it is there, before MLflow is imported.

    Raises:
        RegistryUnavailableError: If it refuses, hangs or answers with a server error.
    """
    if not is_remote(uri):
        return
    import httpx

    try:
        status = httpx.get(f"{uri.rstrip('/')}/health", timeout=timeout_s).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unavailable(uri, f"{type(error).__name__}: {error}") from error
    if status >= 500:
        raise _unavailable(uri, f"HTTP status {status}")


class Connection:
    """An MLflow client whose calls have a deadline and raise our errors.

    Args:
        uri: Tracking URI.
        timeout_s: Of one HTTP request; three are tried.
        budget_s: Time for one record after which no further call is begun; uploads and the
            import of MLflow do not count.
    """

    def __init__(self, uri: str, timeout_s: float, budget_s: float) -> None:
        probe(uri, timeout_s)
        prepare_environment(timeout_s)
        self.uri = uri
        self._timeout_s = timeout_s
        self._budget_s = self._left_s = budget_s
        self.client: MlflowClient = _translated(uri, _client, uri)

    def renew(self) -> None:
        """Begin the time of another record."""
        self._left_s = self._budget_s

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return `function(*args, **kwargs)`, a method of the client.

        Raises:
            RegistryUnavailableError: If the server does not answer or the budget is used up.
            TrackingError: If MLflow refuses.
        """
        if self._left_s <= 0:
            raise _unavailable(self.uri, "too slow: the time for one record is used up")
        started = time.monotonic()
        try:
            return _translated(self.uri, function, *args, **kwargs)
        finally:
            self._left_s -= time.monotonic() - started

    def upload(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return `function(*args, **kwargs)`, which sends one file; its time is not counted.

        A file may take longer than a question. What fails fast is tried again; what hangs is
        not, so that a server that stops in the middle costs one wait.

        Raises:
            RegistryUnavailableError: If the server does not take the file.
        """
        for attempt in range(_RETRIES + 1):
            started = time.monotonic()
            try:
                with _environment(
                    MLFLOW_HTTP_REQUEST_TIMEOUT=str(int(4 * max(self._timeout_s, 1))),
                    MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
                ):
                    return _translated(self.uri, function, *args, **kwargs)
            except RegistryUnavailableError:
                if attempt == _RETRIES or time.monotonic() - started > self._timeout_s:
                    raise
        raise _unavailable(self.uri, "no attempt was made")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set environment variables for a moment; MLflow reads them at every request."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class CircuitBreaker:
    """Remembers, also for other processes, that a server was away a moment ago.

    Args:
        file: Small JSON file.
        open_s: How long nobody asks again.
    """

    def __init__(self, file: Path, open_s: float) -> None:
        self.file = file
        self.open_s = open_s

    def reason(self, uri: str) -> str | None:
        """Return why nobody should ask now, or None where asking is worth it."""
        try:
            state = json.loads(self.file.read_text("utf-8"))
            age_s = time.time() - float(state["at"])
            same = state["uri"] == without_secrets(uri)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None  # a damaged note is no reason not to try
        # A note from the future comes from a clock that was set back.
        if same and 0 <= age_s < self.open_s:
            return f"the tracking server was away {age_s:.0f} s ago: {state.get('reason', '')}"
        return None

    def open(self, uri: str, reason: str) -> None:
        """Note that the server is away."""
        shown = without_secrets(reason).partition("\n")[0][:200]
        note = {"uri": without_secrets(uri), "at": time.time(), "reason": shown}
        atomic_write(self.file, json.dumps(note).encode("utf-8"))

    def close(self) -> None:
        """Note that the server answers."""
        self.file.unlink(missing_ok=True)


def _client(uri: str) -> MlflowClient:
    # The first use of a database file logs every one of its migrations.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _translated(uri: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        return function(*args, **kwargs)
    except FMError:
        raise
    except MlflowException as error:
        # Connection failures carry no code of their own and count as internal errors (500).
        if _status(error) >= 500:
            raise _unavailable(uri, str(error)) from error
        raise TrackingError(
            "MLflow refused", where=without_secrets(uri), found=without_secrets(str(error))[:500]
        ) from error
    except (requests.RequestException, sqlalchemy.exc.OperationalError, OSError) as error:
        raise _unavailable(uri, f"{type(error).__name__}: {error}") from error


def _status(error: BaseException | None) -> int:
    """Return the worst HTTP status of an error and of those it was made from.

    The client wraps some outages into a complaint about its arguments.
    """
    from mlflow.exceptions import MlflowException

    worst = 0
    while error is not None:
        if isinstance(error, MlflowException):
            worst = max(worst, int(error.get_http_status_code()))  # type: ignore[no-untyped-call]
        error = error.__cause__ or error.__context__
    return worst


def _unavailable(uri: str, found: str) -> RegistryUnavailableError:
    return RegistryUnavailableError(
        "the tracking server cannot be reached",
        where=without_secrets(uri),
        found=without_secrets(found)[:500],
        next_step="results wait in the spool and are published when it answers again",
    )
