"""S4: nothing in the product reads or writes pickles, read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"pickle", "cPickle", "_pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal",
           "pickletools", "hickle", "jsonpickle"}  # fmt: skip
CALLS = {"torch.load", "torch.save", "torch.package", "numpy.save", "pandas.read_pickle",
         "np.save", "pd.read_pickle"}  # fmt: skip
METHODS = {"read_pickle", "to_pickle"}
FILES = sorted(p for folder in ("fm_platform", "assets") for p in (ROOT / folder).rglob("*.py"))


def offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
            if node.attr in METHODS:
                yield f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.keyword):
            value = node.value
            is_true = isinstance(value, ast.Constant) and value.value is True
            if node.arg in ("allow_pickle", "trust_remote_code") and is_true:
                yield f"line {value.lineno}: {node.arg}=True"
            if node.arg in ("weights_only", "use_safetensors", "safe_serialization") and (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield f"line {value.lineno}: {node.arg}=False"
            continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
        ):
            names = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in MODULES or name in CALLS:
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_pickle_on_any_path(path: Path) -> None:
    assert list(offences(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "import pickle as p", "from joblib import load", "import cloudpickle.x",
        "from torch import load", "import torch\ntorch.load('x')", "f = torch.load", "import dill",
        "np.load('x', allow_pickle=True)", "df.to_pickle('x')", "__import__('pickle')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_check_sees_what_it_must(source: str) -> None:
    assert list(offences(source))
