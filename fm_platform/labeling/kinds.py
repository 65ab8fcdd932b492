"""The register of the kinds of labeling functions that a project file can declare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fm_platform.labeling.functions import LabelingFunction
from fm_platform.registry import Registry

Compiler = Callable[[Any, Path], LabelingFunction]
"""(entry of the project file, folder of the project) -> the function."""

KINDS: Registry[Compiler] = Registry("labeling-function kind", "fm_platform.labeling_functions")
