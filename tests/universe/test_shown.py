"""MLflow names what the ledger names, after a rollback and after a merge."""

from __future__ import annotations

import shutil
from datetime import datetime

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.records import ArtifactVersion, Produced
from fm_platform.lineage.universes import AliasTarget
from fm_platform.universe.branches import create
from fm_platform.universe.merge import merge
from fm_platform.universe.rollback import rollback
from fm_platform.workspace import Workspace
from tests.lineage.factory import make_recipe, record
from tests.universe.worlds import World, moment

History = tuple[World, datetime]


def promote(world: World, ws: Workspace, text: str) -> ArtifactVersion:
    """Publish a model, register it where `ws` registers, and make it champion."""
    from fm_platform.universe.shown import show_aliases

    staged = ws.home.work / text
    shutil.copytree(world.folder / "base", staged)
    (staged / "README.md").write_text(text)
    content = ws.models.publish(staged, {"name": text}).content_hash
    recipe = make_recipe(project="small", kind="merged_model", name="merged_model",
                         partition=None, inputs=(), config={"text": text})  # fmt: skip
    produced = Produced(content, {"model": content}, metrics={"weights": {"mail": 1.0}})
    made = ws.ledger.get(record(ws.ledger, recipe, produced).id)
    now = ws.ledger.alias("small", "champion")
    ws.ledger.set_alias(
        "small", "champion", made.id, expected=now.id if now else None, reason="", actor="gate"
    )
    show_aliases(ws, "small", {"champion": AliasTarget(made.id)}, RunContext(), kind="promotion",
                 told="good", numbers={})  # fmt: skip
    return made


def named_by_mlflow(world: World) -> str | None:
    """Return the content hash of MLflow's champion of main."""
    from mlflow import MlflowClient

    uri = world.ws.home.tracking_uri
    client = MlflowClient(uri, uri)
    if "champion" not in client.get_registered_model("small").aliases:
        return None
    version = client.get_model_version_by_alias("small", "champion")
    return str(version.tags["fm.content_hash"])


def test_mlflow_names_the_champion_of_the_ledger(history: History) -> None:
    world, _ = history
    none = moment()
    first = promote(world, world.ws, "first")
    assert named_by_mlflow(world) == first.content_hash
    create(world.ws, world.root, "try", RunContext())
    branch = Workspace.open(Home(world.home, "try"))
    better = promote(world, branch, "better")
    assert named_by_mlflow(world) == first.content_hash, "a branch has a registry of its own"

    merge(world.ws, world.root, "try", RunContext())
    assert named_by_mlflow(world) == better.content_hash

    done = rollback(world.ws, "small", world.folder, none, RunContext())
    assert world.ws.ledger.alias("small", "champion") is None
    assert named_by_mlflow(world) is None

    rollback(world.ws, "small", world.folder, done.before, RunContext())
    assert named_by_mlflow(world) == better.content_hash
