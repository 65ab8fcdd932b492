"""Everything that a build needs is looked at before it, and what is amiss is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage.environment import environment
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages.check import Finding, examine, failing, packages, require_ready
from fm_platform.stages.check.models import tokenizer_findings, training_findings
from fm_platform.stages.check.packages import (
    environment_findings,
    requirement_findings,
    serving_packages,
)
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace
from tests.stages.small import Built

World = tuple[Workspace, LoadedProject]
MODULE = '''\
from fm_platform.labeling import labeling_function


@labeling_function
def shouting(row):
    """Loud rows are bad."""
    {body}
'''


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> LoadedProject:
    """The project in a folder that a test may change."""
    shutil.copytree(built[1].directory, tmp_path / "small")
    return load_spec(tmp_path / "small" / "defs.yaml")


def named(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.part, finding.state) for finding in failing(found)]


def test_a_built_project_is_ready(built: Built) -> None:
    ws, loaded, _ = built

    found = list(examine(ws, loaded))

    assert named(found) == []
    assert {finding.part for finding in found} == {
        "project file", "taxonomy", "packages", "sources", "labeling functions", "base model",
        "tokenizer", "training", "serving",
    }  # fmt: skip
    assert "tried on 20 rows" in next(f for f in found if f.part == "labeling functions").what


def test_a_project_that_was_never_built_is_checked_too(built: Built, tmp_path: Path) -> None:
    found = list(examine(Workspace.open(Home(tmp_path / "home")), built[1]))

    assert named(found) == []
    assert [f.state for f in found if "nothing is built yet" in f.what] == ["note"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('return "angry" if "!" in row.text else None', "'angry'"),
        ('return "ne" + "ver" if "n" in row.text else None', "unknown class"),
        ("return row.absent", "fails on 20 of 20 rows (AttributeError)"),
        ("return None\n  oh", "do not import"),
        ("raise SystemExit", "fails on 20 of 20 rows (SystemExit)"),
        ("while True: pass", "shouting takes longer than labeling.timeout_s, 0.3 s, for a row"),
    ],
    ids=["answer in the text", "answer of a row", "fails everywhere", "syntax", "exit", "endless"],
)
def test_a_function_that_cannot_work_is_named(
    built: Built, copy: LoadedProject, body: str, told: str
) -> None:
    (copy.directory / "labeling_functions.py").write_text(MODULE.format(body=body))

    quick = copy.spec.labeling.model_copy(update={"timeout_s": 0.3})
    copy = replace(copy, spec=copy.spec.model_copy(update={"labeling": quick}))

    bad = failing(examine(built[0], copy))

    assert [finding.part for finding in bad] == ["labeling functions"]
    assert told in bad[0].what
    assert bad[0].next_step


def test_a_baseline_that_is_no_function_is_named_before_anything_is_trained(
    built: Built, copy: LoadedProject
) -> None:
    copy.file.write_text(copy.file.read_text().replace("words: good_words", "words: goodwords"))
    loaded = load_spec(copy.file)

    (bad,) = [f for f in failing(examine(built[0], loaded)) if f.part == "labeling functions"]

    assert "baselines.words: unknown labeling function 'goodwords'; did you mean 'good_words'?" in (
        bad.what
    )
    with pytest.raises(FMError, match="not ready to be built"):
        require_ready(loaded, {"weak_labels"})


@pytest.mark.parametrize(
    ("classes", "change"),
    [
        ("negative, neutral, glad", "rename: {positive: glad}"),
        ("negative, neutral, fine, great", "split: {positive: [fine, great]}"),
        ("negative, neutral, positive, great", "add: {great: [positive]}"),
    ],
)
def test_functions_may_answer_classes_of_before(
    built: Built, copy: LoadedProject, classes: str, change: str
) -> None:
    changed = f"{{version: 2, classes: [{classes}], changes: [{{version: 2, {change}}}]}}"
    text = copy.file.read_text()
    copy.file.write_text(text.replace("{classes: [negative, neutral, positive]}", changed))
    (copy.directory / "labeling_functions.py").write_text(
        MODULE.format(body='return "positive" if "o" in row.text else None')
    )
    loaded = load_spec(copy.file)
    assert loaded.spec.taxonomy.version == 2

    bad = failing(examine(built[0], loaded))

    assert [f for f in bad if f.part == "labeling functions"] == []
    require_ready(loaded, {"weak_labels"})


def test_other_weights_under_the_same_name_are_told(built: Built, copy: LoadedProject) -> None:
    file = copy.directory / "base" / "model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] + np.float32(1)}, file, {"format": "pt"})

    bad = failing(examine(built[0], copy))

    assert [(f.part, f.state) for f in bad] == [("base model", "differs")]
    assert "under the same declaration" in bad[0].what


def test_a_base_that_is_not_there_is_named(built: Built, copy: LoadedProject) -> None:
    shutil.rmtree(copy.directory / "base")

    assert named(list(examine(built[0], copy))) == [("base model", "wrong")]


def edited(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda base: edited(base / "config.json", pad_token_id=3), "pad_token is token 0"),
        (
            lambda base: (base / "vocab.txt").write_text(
                (base / "vocab.txt").read_text() + "".join(f"word{i}\n" for i in range(500))
            ),
            "the tokenizer is not the model's",
        ),
        (
            lambda base: edited(base / "config.json", max_position_embeddings=16),
            "max_tokens is 24, the base model reads 16",
        ),
        (  # the positions of this family begin behind that of padding
            lambda base: edited(
                base / "config.json", model_type="roberta", max_position_embeddings=24
            ),
            "max_tokens is 24, the base model reads 23",
        ),
    ],
    ids=["padding", "vocabulary", "length", "length_behind_padding"],
)
def test_a_tokenizer_of_another_model_is_named(
    copy: LoadedProject, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(copy.directory / "base")
    base = resolve_base_model(copy.spec.base_model, copy.directory)

    bad = failing(tokenizer_findings(base, copy.spec))

    assert len(bad) == 1
    assert told in bad[0].what


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"LoRA of rank 2 trains \d"),
        ({"method": "full"}, r"full fine-tuning trains ([\d,]+) of \1 parameters"),
        ({"method": "head"}, r"the head alone trains \d"),
        ({"method": "fish", "mask_share": 0.1}, r"a FISH mask of 10 % trains \d"),
        ({"method": "auto"}, r"chosen by trials, e.g. LoRA of rank 2 trains \d"),
        ({"frozen_layers": 2}, "leaves no layer to train"),
    ],
)
def test_what_is_trained_is_told_for_the_declared_method(
    copy: LoadedProject, settings: dict[str, object], told: str
) -> None:
    training = copy.spec.training.model_copy(update=settings)
    base = resolve_base_model(copy.spec.base_model, copy.directory)

    (found,) = training_findings(base, copy.spec.model_copy(update={"training": training}))

    assert re.search(told, found.what)
    assert (found.state == "ok") is ("frozen_layers" not in settings)


def test_a_missing_and_an_old_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"peft": None, "torch": "1.0"}
    real = packages.installed
    monkeypatch.setattr(packages, "installed", lambda name: versions.get(name, real(name)))

    bad = failing(requirement_findings())

    assert [(f.state, f.what.split()[0]) for f in bad] == [("missing", "peft"), ("wrong", "torch")]
    assert all("pip install" in f.next_step for f in bad)


def test_a_package_of_another_version_than_the_last_build_had_is_named(built: Built) -> None:
    ws, loaded, _ = built
    now = environment()
    other = {**now, "packages": {**now["packages"], "numpy": "9.9.9", "dagster": "9.9.9"}}

    found = list(environment_findings(ws, loaded.spec, other))

    (bad,) = failing(found)
    assert bad.what == f"numpy: {now['packages']['numpy']} then, 9.9.9 now"
    assert f"numpy=={now['packages']['numpy']}" in bad.next_step
    assert any(f.state == "note" and "dagster" in f.what for f in found)


def test_what_serves_the_model_must_be_what_made_it(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, loaded, _ = built
    model = ws.ledger.latest(loaded.spec.name, "merged_model", "merged_model")
    assert model is not None
    real = packages.installed
    changed = {"torch": "9.9.9", "tokenizers": None}
    monkeypatch.setattr(packages, "installed", lambda name: changed.get(name, real(name)))

    bad = failing(serving_packages(ws, model))

    assert [f.state for f in bad] == ["missing", "differs"]
    assert "tokenizers is not installed" in bad[0].what


def test_a_run_is_refused_before_it_starts(copy: LoadedProject) -> None:
    (copy.directory / "labeling_functions.py").write_text(MODULE.format(body='return "angry"'))
    shutil.rmtree(copy.directory / "base")

    require_ready(copy, {"raw"})
    with pytest.raises(FMError, match="not ready") as refused:
        require_ready(copy, {"raw", "weak_labels", "adapters"})

    assert "'angry'" in str(refused.value)
    assert "base model" in str(refused.value)
