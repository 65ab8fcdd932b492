"""Compile what a project file declares to labeling functions.

Each kind lives in a module of its own, named here as text: so a new kind, or a change of one, is
no change of the votes of the others. Kinds that ask a model live in `training`, which may use
models; they register through the same door.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from fm_platform.errors import LabelingError
from fm_platform.hashing import sha256_hex
from fm_platform.labeling.definition import normal_code
from fm_platform.labeling.functions import LabelingFunction
from fm_platform.labeling.kinds import KINDS as KINDS
from fm_platform.lineage.fingerprints import code_fingerprint

_OURS = "fm_platform."
_MODULES = {
    "annotator": "labeling.annotator",
    "exemplars": "labeling.exemplars",
    "keyword": "labeling.words",
    "lexicon": "labeling.words",
    "lookup": "labeling.lookup",
    "model": "training.model_votes",
    "nearest": "training.nearest",
    "prompt": "training.prompts",
    "propagated": "labeling.propagated",
    "regex": "labeling.words",
    "rule": "labeling.rules",
}


def compile_declared(declared: Any, directory: Path) -> LabelingFunction:
    """Return the labeling function that one entry of the project file declares.

    The code of the kind belongs to its fingerprint, as a Python function's code does to its own.
    """
    if declared.kind in _MODULES:
        import_module(f"{_OURS}{_MODULES[declared.kind]}")
    compiler = KINDS.get(declared.kind)
    function = compiler(declared, directory)
    code = _code_of_kind(compiler.__module__)
    return replace(function, definition={**function.definition, "code": code})


def _code_of_kind(module: str) -> str:
    return code_fingerprint(module) if module.startswith(_OURS) else _code_of_other(module)


@cache
def _code_of_other(module: str) -> str:
    try:
        return sha256_hex(normal_code(inspect.getsource(sys.modules[module])).encode())
    except (OSError, TypeError) as error:
        raise LabelingError(
            "the code of a labeling-function kind cannot be read, so its changes would be missed",
            where=module,
        ) from error
