"""What an expert learned travels as a small file, and comes back on its start bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import CorruptArtifactError, FMError, MergeRefusedError
from fm_platform.merging.adapters import read_adapter
from fm_platform.stages.contributions import apply, contribute
from fm_platform.training.predict import load_classifier
from fm_platform.workspace import Workspace
from tests.stages.small import Built
from tests.support.tiny_model import CLASSES


@pytest.fixture
def ws(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The small project, found where `fm` looks for projects."""
    monkeypatch.setenv("FM_PROJECTS", str(tmp_path))
    shutil.copytree(built[1].directory, tmp_path / "assets" / "defs" / "small")
    return built[0]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_all_of_an_expert_is_the_expert(ws: Workspace, built: Built, tmp_path: Path) -> None:
    told = contribute(ws, built[1], "adapter/mail", 1.0, "change", tmp_path / "mail")
    apply(ws, None, [tmp_path / "mail"], None, tmp_path / "whole")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "whole").iterdir()}
    assert len(modes) == 1  # whoever reads the settings reads the weights
    model = load_classifier(tmp_path / "whole").model
    base = load_classifier(tmp_path / "whole").model.state_dict()
    adapter = read_adapter("mail", ws.model_path(built[2]["mail"].version))
    heads = adapter.head()

    assert told["importance"] == "whole"
    assert told["model"].startswith("adapter/mail#")
    assert all(torch.equal(base[name], heads[name]) for name in heads)
    assert model.config.num_labels == len(CLASSES)


def test_a_share_keeps_the_share(ws: Workspace, built: Built, tmp_path: Path) -> None:
    start = apply(ws, "small", [], "start/shared_start", tmp_path / "start")
    told = contribute(ws, built[1], "adapter/mail", 0.01, "fisher_change", tmp_path / "mail")
    done = apply(ws, None, [tmp_path / "mail"], None, tmp_path / "one")
    before, after = tensors(tmp_path / "start"), tensors(tmp_path / "one")
    moved = sum(int((before[name] != after[name]).sum()) for name in before)

    assert start["entries"] == start["conflicts"] == 0
    assert told["entries"] == done["entries"] == moved == round(0.01 * told["parameters"])
    assert told["bytes"] == (tmp_path / "mail").stat().st_size
    assert done["base"] == start["content_hash"]
    again = apply(ws, None, [tmp_path / "mail"], str(tmp_path / "start"), tmp_path / "two")
    assert same(tensors(tmp_path / "two"), after)
    assert again["content_hash"] == done["content_hash"]
    files = {path.name for path in (tmp_path / "two").iterdir()}
    assert files == {path.name for path in (tmp_path / "one").iterdir()}


def test_two_experts_are_added(ws: Workspace, built: Built, tmp_path: Path) -> None:
    for name in ("mail", "chat"):
        contribute(ws, built[1], f"adapter/{name}", 0.1, "fisher", tmp_path / name)
    one = apply(ws, None, [tmp_path / "mail", tmp_path / "chat"], None, tmp_path / "one")
    two = apply(ws, None, [tmp_path / "chat", tmp_path / "mail"], None, tmp_path / "two")

    assert one["content_hash"] == two["content_hash"]
    assert one["conflicts"] > 0
    assert len(one["contributions"]) == 2


def test_a_merged_model_contributes_too(ws: Workspace, built: Built, tmp_path: Path) -> None:
    contribute(ws, built[1], "merged_model", 1.0, "change", tmp_path / "merged")
    apply(ws, None, [tmp_path / "merged"], None, tmp_path / "one")

    assert same(tensors(tmp_path / "one"), tensors(ws.model_path(built[2]["merged"].version)))


def test_the_wrong_base_the_wrong_model_and_a_damaged_file_are_refused(
    ws: Workspace, built: Built, tmp_path: Path
) -> None:
    contribute(ws, built[1], "adapter/mail", 0.01, "change", tmp_path / "mail")
    apply(ws, None, [tmp_path / "mail"], None, tmp_path / "one")
    with pytest.raises(MergeRefusedError, match="another base"):
        apply(ws, None, [tmp_path / "mail"], str(tmp_path / "one"), tmp_path / "two")
    with pytest.raises(FMError, match="there already"):
        apply(ws, None, [tmp_path / "mail"], None, tmp_path / "one")
    with pytest.raises(FMError, match="there is no such file"):
        apply(ws, None, [tmp_path / "none"], None, tmp_path / "two")
    with pytest.raises(FMError, match="on nothing"):
        apply(ws, None, [], None, tmp_path / "two")
    with pytest.raises(FMError, match="on a shared start"):
        apply(ws, "small", [], "adapter/mail", tmp_path / "two")
    with pytest.raises(FMError, match="continues no shared start"):
        contribute(ws, built[1], "start/shared_start", 0.01, "change", tmp_path / "start")
    data = (tmp_path / "mail").read_bytes()
    (tmp_path / "mail").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptArtifactError):
        apply(ws, None, [tmp_path / "mail"], None, tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_at_the_command_line(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FM_HOME", str(ws.home.root))
    fm, file, folder = CliRunner(), str(tmp_path / "mail"), str(tmp_path / "one")
    words = ["models", "contribute", "adapter/mail", "--to", file]  # of the only project
    told = fm.invoke(app, [*words, "--share", "0.02"])
    assert told.exit_code == 0, told.output
    assert "changed entries of adapter/mail#1, by fisher_change" in told.output
    listed = json.loads(fm.invoke(app, [*words, "--json"]).output)
    assert listed["share"] == 0.01
    assert listed["file"] == file

    said = fm.invoke(app, ["models", "apply", file, "--to", folder])
    assert said.exit_code == 0, said.output
    assert f"{listed['entries']:,} entries changed, 0 of them by several" in said.output
    body = json.loads(
        fm.invoke(app, ["models", "apply", file, "--to", f"{folder}-2", "--json"]).output
    )
    assert body["contributions"][0]["content_hash"] == listed["content_hash"]
    wrong = fm.invoke(app, [*words, "--importance", "size"])
    assert isinstance(wrong.exception, FMError)
    assert "fisher_change" in str(wrong.exception)
