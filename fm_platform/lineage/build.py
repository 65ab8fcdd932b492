"""Build an artifact, or reuse it: the heart of the build system."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.hashing import fingerprint
from fm_platform.lineage.causes import Before, Describe, differences, nothing_known
from fm_platform.lineage.database import now
from fm_platform.lineage.leases import Lease
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.recipes import spec_recipe
from fm_platform.lineage.records import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.spec.models import ProjectSpec


@dataclass(frozen=True)
class BuildResult:
    """A version, whether it was reused, and why."""

    version: ArtifactVersion
    reused: bool
    reason: str


def build(
    ledger: Ledger,
    recipe: Recipe,
    *,
    verify: Callable[[ArtifactVersion], None],
    compute: Callable[[Lease], Produced],
    run: RunContext,
    on_damage: Callable[[ArtifactVersion, Exception], None] | None = None,
) -> BuildResult:
    """Return the version that `recipe` describes, computing it only where it must be.

    Args:
        ledger: Where versions are looked up and recorded.
        recipe: Everything the artifact is made from.
        verify: Checks stored bytes; raises CorruptArtifactError or MissingArtifactError.
        compute: Makes the artifact. It gets the lease whose epoch numbers its commits and must
            check it right before anything becomes visible.
        run: Who asks.
        on_damage: Told of a damaged version before it is computed again, e.g. to set it aside.

    Raises:
        FencedError: If a newer run took over while computing; nothing is recorded then.
        NonReproducibleError: If the recipe already gave another content.
    """
    known = ledger.lookup(recipe.hash)
    damage: CorruptArtifactError | MissingArtifactError | None = None
    if known is not None:
        try:
            verify(known)
        except (CorruptArtifactError, MissingArtifactError) as error:
            damage = error
        else:
            if ledger.removal(known.id) is not None:  # retention was killed before it removed it
                ledger.note_restored([known.id])
            ledger.use(recipe, known)
            return BuildResult(known, True, f"reused {known.content_hash[:12]}: same recipe")
    started = now()
    lease = ledger.acquire_lease(lease_key(recipe, ledger.scope(recipe.project)), holder(run))
    try:
        gone = ledger.removal(known.id) if known is not None else None
        if gone is not None:
            reason = f"retention removed its bytes on {gone.removed_at:%Y-%m-%d}: built again"
        elif known is not None and damage is not None:
            reason = f"damaged: {damage.message}"
            if on_damage is not None:
                on_damage(known, damage)
        else:
            before = ledger.latest(recipe.project, recipe.kind, recipe.name, recipe.partition)
            reason = why_changed(before, recipe, ledger.document)
        produced = compute(lease)
        version = ledger.record(recipe, produced, run, started, now(), lease)
    finally:
        ledger.release_lease(lease)
    return BuildResult(version, False, reason)


def lease_key(recipe: Recipe, scope: str | None = None) -> str:
    """Return the key of the lease that guards the slot of a recipe, there or on a branch."""
    return "/".join((scope or recipe.project, recipe.kind, recipe.name, recipe.partition or "-"))


def holder(run: RunContext) -> str:
    """Return who holds a lease: the Dagster run, or a process."""
    if run.dagster_run_id:
        return run.dagster_run_id
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"[-128:]


def why_changed(
    before: ArtifactVersion | None, recipe: Recipe, describe: Describe = nothing_known
) -> str:
    """Say in words what differs between the version in use and the wanted recipe."""
    if before is None:
        return "never built"
    if before.recipe_hash == recipe.hash:
        return "unchanged"
    return differences(Before.of(before), recipe, describe)


def record_spec(ledger: Ledger, spec: ProjectSpec, run: RunContext) -> ArtifactVersion:
    """Record what the project declares now as an artifact; an unchanged spec is reused."""
    recipe = spec_recipe(spec)

    def compute(_lease: Lease) -> Produced:
        return Produced(fingerprint(recipe.config), {"spec": dict(recipe.config)})

    return build(ledger, recipe, verify=lambda _version: None, compute=compute, run=run).version
