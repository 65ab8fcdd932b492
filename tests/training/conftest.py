"""One tiny base and one shared start for all tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.start import fit_start
from tests.support.tiny_model import CLASSES, build_tiny_base, tiny_config, tiny_rows


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("tiny")
    build_tiny_base(folder / "base")
    return resolve_base_model(BaseModelSpec(location="base"), folder)


@pytest.fixture(scope="session")
def start(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("start")
    rows, dev = tiny_rows(64), tiny_rows(16, 1, split="dev")
    return fit_start(rows, dev, base, tiny_config(), CLASSES, workdir).directory
