"""The folder that MLflow keeps of a model: our files, hard-linked, and the `MLmodel` about them.

`mlflow.transformers.log_model` loads the model, writes it once more and asks a hub about its
card. The folder it would make is made here from the verified files themselves: no weights are
read, and on one file system no byte is copied. `mlflow.transformers.load_model` and
`mlflow.pyfunc.load_model` load it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fm_platform.errors import TrackingError

EXAMPLE_TEXT = "The service was good."
"""The input example: ours, never a row of the data."""

MODEL_FOLDER = "model"
_TOKENIZER_FOLDER = "components/tokenizer"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "config.json",
)
_REQUIREMENTS = ("mlflow", "torch", "transformers", "safetensors")


def write_model_folder(
    model_dir: Path, target: Path, task: str, model_id: str, run_id: str, tags: Mapping[str, str]
) -> None:
    """Write the MLflow form of `model_dir` into the new folder `target`.

    Args:
        model_dir: Verified folder with `config.json`, weights and tokenizer.
        target: Written; parents exist.
        task: Pipeline task of transformers.
        model_id: Of the logged model.
        run_id: Of the run that made it.
        tags: Kept as the metadata of the MLmodel file.

    Raises:
        TrackingError: If `model_dir` has no `config.json` or no safetensors weights.
    """
    if not (model_dir / "config.json").is_file() or not list(model_dir.glob("*.safetensors")):
        raise TrackingError(
            "this is no model folder",
            where=model_dir,
            expected="config.json and *.safetensors",
            found=sorted(path.name for path in model_dir.iterdir()) if model_dir.is_dir() else None,
        )
    for path in sorted(model_dir.rglob("*")):
        if path.is_file() and not path.is_symlink():
            _link(path, target / MODEL_FOLDER / path.relative_to(model_dir))
    for name in _TOKENIZER_FILES:
        if (model_dir / name).is_file():
            _link(model_dir / name, target / _TOKENIZER_FOLDER / name)
    _write_environment(target)
    (target / "input_example.json").write_text(json.dumps(EXAMPLE_TEXT), "utf-8")
    (target / "serving_input_example.json").write_text(
        json.dumps({"inputs": EXAMPLE_TEXT}), "utf-8"
    )
    size = sum(path.stat().st_size for path in model_dir.rglob("*") if path.is_file())
    _write_mlmodel(model_dir, target, task, model_id, run_id, tags, size)


def signature() -> Any:
    """Return the MLflow signature of a text classifier: a string in, label and score out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema([ColSpec("string", "label"), ColSpec("double", "score")]),
    )


def _write_mlmodel(
    model_dir: Path,
    target: Path,
    task: str,
    model_id: str,
    run_id: str,
    tags: Mapping[str, str],
    size_bytes: int,
) -> None:
    from mlflow.models import Model

    config = json.loads((model_dir / "config.json").read_text("utf-8"))
    architectures = config.get("architectures") or ["AutoModelForSequenceClassification"]
    model = Model(
        run_id=run_id,
        model_id=model_id,
        signature=signature(),
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "json_object",
        },
        model_size_bytes=size_bytes,
        metadata=dict(tags),
    )
    model.add_flavor(
        "transformers",
        task=task,
        instance_type="TextClassificationPipeline",
        pipeline_model_type=architectures[0],
        model_binary=MODEL_FOLDER,
        source_model_name=MODEL_FOLDER,
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
        torch_dtype=f"torch.{config.get('dtype') or config.get('torch_dtype') or 'float32'}",
        transformers_version=version("transformers"),
        code=None,
    )
    model.add_flavor(
        "python_function",
        loader_module="mlflow.transformers",
        python_version=platform.python_version(),
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    model.save(str(target / "MLmodel"))


def _write_environment(target: Path) -> None:
    lines = [f"{name}=={version(name)}" for name in _REQUIREMENTS if _installed(name)]
    python = platform.python_version()
    packages = "".join(f"  - {line}\n" for line in lines)
    (target / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (target / "python_env.yaml").write_text(
        f"python: {python}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n",
        "utf-8",
    )
    (target / "conda.yaml").write_text(
        f"channels:\n- conda-forge\ndependencies:\n- python={python}\n- pip\n- pip:\n{packages}"
        "name: mlflow-env\n",
        "utf-8",
    )


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    """Hard-link a file; copy it where the file systems differ or links are not allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
