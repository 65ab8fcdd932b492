"""Installed packages against what the platform requires and what the last build had."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.environment import environment
from fm_platform.lineage.machinery import PACKAGES
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.check.findings import DIFFERS, MISSING, NOTE, OK, WRONG, Finding
from fm_platform.workspace import Workspace

DISTRIBUTION = "fm-platform"
# What a process must have that loads a merged model and answers with it.
SERVING = ("numpy", "safetensors", "tokenizers", "torch", "transformers")
_PART = "packages"
_INSTALL = "pip install -c constraints.txt"


def requirement_findings(home_url: str = "") -> Iterator[Finding]:
    """Yield the required packages that are missing or of a version that is not allowed.

    Args:
        home_url: Address of the ledger: PostgreSQL needs packages of its own.
    """
    lines = requires_of()
    if lines is None:
        yield Finding(
            _PART, MISSING, f"{DISTRIBUTION} is not installed, so its requirements are not known",
            f"{_INSTALL} -e .",
        )  # fmt: skip
        return
    wanted = [Requirement(line) for line in lines]
    chosen = _extras(home_url)
    wanted = [
        r for r in wanted
        if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in chosen)
    ]  # fmt: skip
    bad = 0
    for requirement in sorted(wanted, key=lambda r: r.name.lower()):
        found = installed(requirement.name)
        if found is None:
            bad += 1
            yield Finding(
                _PART, MISSING, f"{requirement.name} is not installed; {requirement} is required",
                f"{_INSTALL} '{requirement.name}'",
            )  # fmt: skip
        elif not requirement.specifier.contains(found, prereleases=True):
            bad += 1
            yield Finding(
                _PART, WRONG, f"{requirement.name} {found} is installed; {requirement} is required",
                f"{_INSTALL} '{requirement.name}'",
            )  # fmt: skip
    if not bad:
        yield Finding(_PART, OK, f"{len(wanted)} required packages are installed as required")


def requires_of() -> list[str] | None:
    """Return the requirements of the platform; None where it is not installed."""
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return None


def installed(name: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras(ledger_url: str) -> list[str]:
    lake = os.environ.get("FM_LAKE_URL", "")
    extras = ["s3"] if lake.startswith(("s3://", "s3a://")) else []
    return ["", *extras, *(["postgres"] if ledger_url.startswith("postgresql") else [])]


def last_build(ws: Workspace, project: str) -> ArtifactVersion | None:
    """Return what was built last, of the newest day or of the models."""
    found = [
        ws.ledger.latest(project, kind, kind, ws.ledger.last_partition(project, kind, kind))
        for kind in ("raw", "weak_labels", "cleaned")
    ]
    found += [ws.ledger.latest(project, kind, kind) for kind in ("merged_model", "evaluation")]
    return max(
        (v for v in found if v is not None), key=lambda v: (v.created_at, v.id), default=None
    )


def environment_findings(
    ws: Workspace, spec: ProjectSpec, now: Mapping[str, Any] | None = None
) -> Iterator[Finding]:
    """Yield in what this environment is not that of the last build.

    Only what is part of a recipe of the project counts as different, since only that is built
    again, and so in order, by the next run.

    Args:
        ws: The workspace.
        spec: The project.
        now: The environment to judge; that of this process without it.
    """
    built = last_build(ws, spec.name)
    recorded = _recorded(ws, built)
    if built is None or recorded is None:
        yield Finding(_PART, NOTE, "nothing is built yet: there is no environment to compare with")
        return
    now = now or environment()
    when = f"the last build ({built.kind} of {built.created_at:%Y-%m-%d %H:%M} UTC)"
    again = f"or build with what is installed: fm run {spec.name}"
    found = [
        *_machine(recorded, now, again),
        *_versions(recorded, now, again, counting(spec)),
    ]
    yield from found
    if not any(finding.failing for finding in found):
        yield Finding(_PART, OK, f"versions and machine type are those of {when}")


def _machine(then: Mapping[str, Any], now: Mapping[str, Any], again: str) -> Iterator[Finding]:
    for key, name, step in (
        ("python", "Python", "use that Python"),
        ("machine", "machine type", "build on that machine type"),
    ):
        if then.get(key) == now.get(key):
            continue
        minor = [str(e.get(key)).rpartition(".")[0] for e in (then, now)]
        same = key == "python" and minor[0] == minor[1]
        yield Finding(
            _PART, NOTE if same else DIFFERS,
            f"{name}: {then.get(key)} then, {now.get(key)} now", "" if same else f"{step}, {again}",
        )  # fmt: skip
    if then.get("lock") != now.get("lock"):
        yield Finding(
            _PART, NOTE,
            f"constraints.txt: sha256 {str(then.get('lock'))[:12]} then, "
            f"{str(now.get('lock'))[:12]} now",
        )  # fmt: skip


def _versions(
    then: Mapping[str, Any], now: Mapping[str, Any], again: str, counting: Collection[str]
) -> Iterator[Finding]:
    before, today = then.get("packages", {}), now.get("packages", {})
    changed = [n for n in sorted({*before, *today}) if before.get(n) != today.get(n)]
    for name in changed:
        if name in counting:
            wanted = f"{_INSTALL} '{name}=={before[name]}'" if name in before else "remove it"
            yield Finding(
                _PART, DIFFERS if name in today else MISSING,
                f"{name}: {before.get(name, 'not installed')} then, "
                f"{today.get(name, 'not installed')} now",
                f"{wanted}, {again}",
            )  # fmt: skip
    others = [name for name in changed if name not in counting]
    if others:
        shown = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
        yield Finding(_PART, NOTE, f"{len(others)} packages that no result depends on: {shown}")


def counting(spec: ProjectSpec) -> set[str]:
    """Return the packages that can alter a result of a project: those in its recipes."""
    learns = any(function.kind == "exemplars" for function in spec.labeling.functions)
    kinds = set(PACKAGES) - (set() if learns else {"exemplar_votes"})
    names = {name for kind in kinds for name in PACKAGES[kind][0]}
    return {str(canonicalize_name(name)) for name in names}


def serving_packages(ws: Workspace, model: ArtifactVersion) -> Iterator[Finding]:
    """Yield what loading and serving a merged model needs and this environment has not."""
    then = (_recorded(ws, model) or {}).get("packages", {})
    bad = 0
    for name in SERVING:
        now, before = installed(name), then.get(name)
        if now is None:
            bad += 1
            wanted = f"{name}=={before}" if before else name
            yield Finding(
                "serving", MISSING, f"{name} is not installed; the model was made with "
                f"{before or 'a version that is not recorded'}", f"{_INSTALL} '{wanted}'",
            )  # fmt: skip
        elif before is not None and now != before:
            bad += 1
            yield Finding(
                "serving", DIFFERS,
                f"{name}: the model was made with {before}, {now} would serve it",
                f"{_INSTALL} '{name}=={before}', or build and evaluate it with what is installed: "
                f"fm run {model.project}",
            )  # fmt: skip
    if not bad:
        yield Finding("serving", OK, f"{', '.join(SERVING)} are those that the model was made with")


def _recorded(ws: Workspace, version: ArtifactVersion | None) -> Mapping[str, Any] | None:
    if version is None or not version.run_environment:
        return None
    found: Mapping[str, Any] | None = ws.ledger.document(version.run_environment)
    return found
