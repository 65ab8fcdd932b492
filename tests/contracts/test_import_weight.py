"""Light modules stay light: the webserver, the daemon and every step import them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "evidently", "mlflow")


@pytest.mark.parametrize(
    "module",
    [
        "fm_platform.spec",
        "fm_platform.store",
        "fm_platform.lineage",
        "fm_platform.sources",
        "fm_platform.cleaning",
        "fm_platform.labeling",
        "fm_platform.stages",
        "fm_platform.cli",
        "assets.definitions",
    ],
)
def test_import_loads_no_heavy_library(module: str) -> None:
    script = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
