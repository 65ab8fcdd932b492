"""Build an artifact, or reuse it: the heart of the build system."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.lineage.ledger import Lease, Ledger, now
from fm_platform.lineage.records import ArtifactVersion, Produced, Recipe, RunContext


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
        FencedError: If a newer run took over while computing.
        NonReproducibleError: If the recipe already gave another content.
    """
    known = ledger.lookup(recipe.hash)
    reason = "unbuilt" if known is None else ""
    if known is not None:
        try:
            verify(known)
        except (CorruptArtifactError, MissingArtifactError) as error:
            reason = f"damaged: {error.message}"
            if on_damage is not None:
                on_damage(known, error)
        else:
            ledger.use(recipe, known)
            return BuildResult(known, True, f"reused {known.content_hash[:12]}: same recipe")
    else:
        reason = why_changed(
            ledger.latest(recipe.project, recipe.kind, recipe.name, recipe.partition), recipe
        )
    started = now()
    key = "/".join((recipe.project, recipe.kind, recipe.name, recipe.partition or "-"))
    lease = ledger.acquire_lease(key, run.dagster_run_id or f"process-{uuid.uuid4().hex[:12]}")
    produced = compute(lease)
    ledger.check_lease(lease)
    version = ledger.record(recipe, produced, run, started, now())
    return BuildResult(version, False, reason)


def why_changed(before: ArtifactVersion | None, recipe: Recipe) -> str:
    """Say in words what differs between the version in use and the wanted recipe."""
    if before is None:
        return "never built"
    if before.recipe_hash == recipe.hash:
        return "unchanged"
    causes: list[str] = []
    old = {(i.role, i.name, i.partition, i.part): i.content_hash for i in before.inputs}
    new = {(i.role, i.name, i.partition, i.part): i.content_hash for i in recipe.inputs}
    for verb, keys in (
        ("changed", [k for k in sorted(new, key=str) if k in old and old[k] != new[k]]),
        ("came", [k for k in sorted(new, key=str) if k not in old]),
        ("went", [k for k in sorted(old, key=str) if k not in new]),
    ):
        if keys:
            named = ", ".join(_named(*key) for key in keys[:3])
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            causes.append(f"{named}{more} {verb}")
    if dict(before.config) != dict(recipe.config):
        keys_of = sorted(set(before.config) | set(recipe.config))
        differing = [k for k in keys_of if before.config.get(k) != recipe.config.get(k)]
        causes.append(f"configuration changed ({', '.join(differing)})")
    if before.code != recipe.code:
        causes.append("its code changed")
    if before.environment != recipe.environment:
        causes.append("packages or machine type changed")
    if before.seed != recipe.seed:
        causes.append(f"seed changed ({before.seed} -> {recipe.seed})")
    return "; ".join(causes) or "its recipe changed"


def _named(role: str, name: str, partition: str | None, part: str | None) -> str:
    words = [name if name == role else f"{role} {name}"]
    if partition:
        words.append(partition)
    if part:
        words.append(f"({part})")
    return " ".join(words)
