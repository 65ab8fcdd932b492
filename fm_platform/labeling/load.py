"""All labeling functions of a project: declared ones first, then those of its module."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from fm_platform.errors import FunctionImportError, LabelingError
from fm_platform.hashing import sha256_file
from fm_platform.labeling.declared import compile_declared
from fm_platform.labeling.functions import LabelingFunction
from fm_platform.spec.models import ProjectSpec


def load_functions(spec: ProjectSpec, directory: Path) -> tuple[LabelingFunction, ...]:
    """Return the labeling functions in the order of their names.

    Raises:
        FunctionImportError: If the module does not import, with file and line; or is not there.
        LabelingError: If two functions share a name, or there is none.
    """
    found = [compile_declared(declared, directory) for declared in spec.labeling.functions]
    if spec.labeling.module is not None and _is_there(spec, directory / spec.labeling.module):
        module = _import(directory / spec.labeling.module)
        found += [value for value in vars(module).values() if isinstance(value, LabelingFunction)]
    names = [function.name for function in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabelingError(f"labeling functions share a name: {', '.join(twice)}", where=directory)
    if not found:
        raise LabelingError(
            f"project {spec.name} has no labeling function",
            where=directory,
            next_step="declare one under labeling.functions, or write labeling_functions.py",
        )
    return tuple(sorted(found, key=lambda function: function.name))


def _is_there(spec: ProjectSpec, path: Path) -> bool:
    """Whether the module exists; only the default name may be missing.

    Raises:
        FunctionImportError: If a module that the project file names is not there.
    """
    if not path.exists() and "module" in spec.labeling.model_fields_set:
        raise FunctionImportError(
            "the declared module of labeling functions is not there",
            where=path,
            next_step="mend labeling.module, or write the file",
        )
    return path.exists()


def _import(path: Path) -> ModuleType:
    """Import a file under a name of its own content, so that an edit is seen at once."""
    name = f"fm_labeling_functions_{sha256_file(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FunctionImportError("labeling functions cannot be loaded", where=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a file that ends Python must not end a run
        del sys.modules[name]
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = frames[-1].lineno if frames else None
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line = error.lineno
        raise FunctionImportError(
            "the labeling functions do not import",
            where=f"{path}:{line}" if line else path,
            found=f"{type(error).__name__}: {error}",
            next_step="mend the file; nothing was labeled with it",
        ) from error
    return module
