"""A base, a shared start and two experts for all tests of a session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.start import fit_start
from fm_platform.training.train import train_expert
from tests.support.tiny_model import (
    CLASSES,
    build_tiny_base,
    rows_of,
    tiny_config,
    tiny_rows,
)

DEV = tiny_rows(24, 1, split="dev")


@dataclass(frozen=True)
class Family:
    """What a merge begins with."""

    base: BaseModel
    start: Path
    experts: dict[str, Path]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    build_tiny_base(folder / "base")
    base = resolve_base_model(BaseModelSpec(location="base"), folder)
    rows, none = tiny_rows(96), DEV.slice(0, 0)
    config = tiny_config()
    start = fit_start(rows, none, base, config, CLASSES, folder / "start").directory
    experts = {
        name: train_expert(
            rows_of(rows, name), none, base, start, config, CLASSES, folder / name
        ).directory
        for name in ("chat", "mail")
    }
    return Family(base, start, experts)
