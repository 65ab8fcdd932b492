"""A real MLflow server inside the test process, behind a door that can be made to misbehave."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fm_platform.tracking.client import prepare_environment
from fm_platform.tracking.records import (
    DataInput,
    EvaluationRecord,
    ModelRecord,
    TrainingRecord,
)
from fm_platform.tracking.tracker import Tracker

CONFIG = (
    '{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "dtype": "float32"}'
)


class Door:
    """WSGI middleware: lets requests through, refuses them, or loses the answers.

    `mode` is `open`, `error` (500 before anything happens), `lost` (500 after it happened) or
    `flapping` (each request one of the three by a seeded draw).
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.mode = "open"
        self.random = random.Random(0)
        self.requests = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests += 1
        mode = self.mode
        if mode == "flapping":
            mode = self.random.choice(["open", "open", "error", "lost"])
        if mode == "open":
            return self.app(environ, start)
        if mode == "lost":
            b"".join(self.app(environ, lambda *_: lambda _: None))
        start("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"out of order"]


class Server:
    """The MLflow server and its door."""

    def __init__(self, url: str, door: Door) -> None:
        self.url = url
        self.door = door

    def client(self) -> Any:
        from mlflow import MlflowClient

        self.door.mode = "open"
        return MlflowClient(self.url, self.url)


@pytest.fixture(scope="session")
def _mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("mlflow-server")
    patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{root / 'm.db'}")
    patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
    patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(root / "artifacts"))
    patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
    patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    prepare_environment(5)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    from mlflow.server import app
    from werkzeug.serving import make_server

    door = Door(app.wsgi_app)
    server = make_server("127.0.0.1", 0, door, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Server(f"http://127.0.0.1:{server.server_port}", door)
    server.shutdown()
    patch.undo()


@pytest.fixture
def server(_mlflow_server: Server) -> Iterator[Server]:
    _mlflow_server.door.mode = "open"
    yield _mlflow_server
    _mlflow_server.door.mode = "open"


@pytest.fixture
def refused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def hanging_url() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)  # the kernel accepts; nobody ever answers
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG)
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("# card")
    return folder


class Records:
    """Records of one project."""

    def __init__(self, project: str, model_dir: Path) -> None:
        self.project = project
        self.model_dir = model_dir
        self.now_ms = int(time.time() * 1000)
        self.inputs = (DataInput("cleaned/2026-01-01", "ab" * 32, "training", {"version": 0}, 10),)

    def training(self, recipe: str = "1", name: str = "tweets") -> TrainingRecord:
        return TrainingRecord(
            self.project, recipe * 64, "2" * 64, self.now_ms - 5000, self.now_ms,
            {"rank": 8}, {"dev/f1": 0.5, "dev/bad": float("nan")}, {"dagster/run_id": "abc"},
            self.inputs, name=name,
            history={"train_loss": tuple((i, 1 / (1 + i)) for i in range(20))},
        )  # fmt: skip

    def model(self, recipe: str = "3") -> ModelRecord:
        return ModelRecord(
            self.project, recipe * 64, "4" * 64, self.now_ms - 5000, self.now_ms,
            {"method": "linear"}, {"tweets/dev_f1": 0.8}, {}, self.inputs,
            model_dir=str(self.model_dir), description="**merged**",
        )  # fmt: skip

    def evaluation(self, model_recipe: str = "3") -> EvaluationRecord:
        return EvaluationRecord(
            self.project, "5" * 64, "6" * 64, self.now_ms - 500, self.now_ms, {},
            {"all/f1_weighted": 0.75}, {},
            (DataInput("gold/test", "cd" * 32, "evaluation", {}, 40),),
            model_recipe_hash=model_recipe * 64, table={"rows": []}, markdown="# table",
            files={"report.html": str(self.model_dir / "README.md")}, images={"bars.png": b"png"},
        )  # fmt: skip


@pytest.fixture
def records(request: pytest.FixtureRequest, model_dir: Path) -> Records:
    # One server serves the whole session: each test has a project of its own.
    name = request.node.name.replace("[", "_").replace("]", "").replace("-", "_")
    return Records(name, model_dir)


@pytest.fixture
def make_tracker(tmp_path: Path) -> Callable[..., Tracker]:
    def make(uri: str | None = None, **kwargs: Any) -> Tracker:
        return Tracker(
            uri or f"sqlite:///{tmp_path / 'mlflow.db'}",
            tmp_path / "artifacts",
            tmp_path / "spool",
            **kwargs,
        )

    return make
