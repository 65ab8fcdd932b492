"""MLflow loads the folder that we write, with our tokenizer and labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from fm_platform.errors import TrackingError
from fm_platform.store.models import ModelStore
from fm_platform.tracking.logged_model import EXAMPLE_TEXT, write_model_folder
from fm_platform.tracking.tracker import Tracker
from tests.tracking.conftest import Records


@pytest.fixture
def tiny_model(tmp_path: Path) -> Path:
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path / "tiny"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "service", "was", "good", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, id2label=labels, label2id={v: k for k, v in labels.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def in_a_store(folder: Path) -> tuple[ModelStore, str]:
    """Publish a model; return the store and the content hash."""
    store = ModelStore(folder.parent / "models", folder.parent / "key")
    return store, store.publish(folder, {}).content_hash


def test_a_registered_model_of_the_store_costs_no_bytes(
    make_tracker: Callable[..., Tracker], tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"a": np.zeros(1000, np.float32), "b": np.ones(9)}, folder / "model.safetensors")
    store, content_hash = in_a_store(folder)
    store.checkouts.clear()  # as when the record waited in the spool for long
    tracker = make_tracker(models=store)
    record = replace(Records("linked", folder).model(), content_hash=content_hash)

    published = tracker.log_merged_model(record)

    assert not published.spooled, published.reason
    kept = {path.name: path for path in (tmp_path / "artifacts").rglob("model/*")}
    assert "model.safetensors" not in kept
    index = json.loads(kept["model.safetensors.index.json"].read_text())
    for tensor, shard in index["weight_map"].items():
        name = store.objects_of(content_hash)[f"model.safetensors: {tensor}"]
        assert kept[shard].samefile(store.objects.path(name))
    assert not list((tmp_path / "artifacts").glob(".upload-*"))


@pytest.mark.slow
def test_mlflow_loads_a_registered_model_of_the_store(
    make_tracker: Callable[..., Tracker], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    store, content_hash = in_a_store(tiny_model)
    tracker = make_tracker(models=store)
    record = replace(Records("shards", tiny_model).model(), content_hash=content_hash)
    assert not tracker.log_merged_model(record).reason

    import mlflow
    import torch
    from transformers import AutoModelForSequenceClassification

    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)  # MLflow sets it, for good
    mlflow.set_tracking_uri(tracker.uri)
    try:
        pipeline = mlflow.transformers.load_model("models:/shards@challenger")
    finally:
        mlflow.set_tracking_uri(before)

    ours = AutoModelForSequenceClassification.from_pretrained(store.open(content_hash))
    theirs = pipeline.model.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in ours.state_dict().items())
    assert pipeline(EXAMPLE_TEXT)[0]["label"] in {"negative", "neutral", "positive"}


@pytest.mark.slow
def test_mlflow_and_transformers_load_the_registered_model(
    make_tracker: Callable[..., Tracker], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    records = Records("loads", tiny_model)
    tracker = make_tracker()
    tracker.log_merged_model(records.model())
    tracker.set_champion("loads", "3" * 64)

    import mlflow
    from transformers import AutoModelForSequenceClassification

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracker.uri)
    try:
        pipeline = mlflow.transformers.load_model("models:/loads@champion")
        generic = mlflow.pyfunc.load_model("models:/loads@champion")
        folder = Path(mlflow.artifacts.download_artifacts("models:/loads@champion"))
    finally:
        mlflow.set_tracking_uri(before)

    answer = pipeline(EXAMPLE_TEXT)[0]
    frame = generic.predict([EXAMPLE_TEXT])
    assert answer["label"] in {"negative", "neutral", "positive"}
    assert frame["label"].tolist() == [answer["label"]]
    assert [c.name for c in generic.metadata.signature.outputs.inputs] == ["label", "score"]
    plain = AutoModelForSequenceClassification.from_pretrained(
        folder / "model", local_files_only=True
    )
    assert plain.config.id2label[2] == "positive"


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")

    with pytest.raises(TrackingError, match="no model folder"):
        write_model_folder(tmp_path / "m", tmp_path / "t", "text-classification", "m-1", "r", {})
