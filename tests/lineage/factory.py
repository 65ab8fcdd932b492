"""Recipes and versions for tests."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from fm_platform.hashing import sha256_hex
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input, Produced, Recipe, RunContext

EARLY = datetime(2026, 1, 1, 12, 0, tzinfo=timezone.utc)


def make_recipe(**changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "project": "shop",
        "kind": "raw",
        "name": "raw",
        "partition": "2026-01-01",
        "inputs": (Input("source", "mail", "2026-01-01", sha256_hex(b"mail")),),
        "code": "c" * 64,
        "config": {"classes": ["good", "bad"]},
        "environment": "e" * 64,
        "seed": None,
    }
    return Recipe(**{**fields, **changes})


def make_produced(text: str = "content", **changes: Any) -> Produced:
    return Produced(sha256_hex(text.encode()), {"file": text}, **{"rows": 3, **changes})


def record(ledger: Ledger, recipe: Recipe, produced: Produced | None = None) -> ArtifactVersion:
    return ledger.record(
        recipe, produced or make_produced(), RunContext(), EARLY, EARLY + timedelta(seconds=2)
    )
