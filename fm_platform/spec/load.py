"""Load a project file with every mistake at once, each with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fm_platform.errors import SpecError, SpecProblem
from fm_platform.spec.base_model import BaseModelSpec
from fm_platform.spec.checks import Location, Problem, cross_problems, suggest
from fm_platform.spec.mistakes import booleans, of_pydantic
from fm_platform.spec.models import ProjectSpec
from fm_platform.spec.tree import Tree, dotted

COMPONENT = "assets.project.ContinuousTraining"

Check = Callable[[ProjectSpec], Iterable[Problem]]
"""A look at a spec by a layer above, which knows more: the options of a connector."""


@dataclass(frozen=True)
class LoadedProject:
    """A project: its spec, and the folder and file that declare it.

    Attributes:
        embeds: The base that embeds rows, where another one was chosen for the models.
    """

    spec: ProjectSpec
    directory: Path
    file: Path
    embeds: BaseModelSpec | None = None


def discover(root: Path) -> list[Path]:
    """Return the project files below `root`/assets/defs, sorted by name."""
    return sorted((root / "assets" / "defs").glob("*/defs.yaml"))


def load_spec(path: Path, checks: Sequence[Check] = ()) -> LoadedProject:
    """Load a project file.

    Args:
        path: The file.
        checks: What else to look for; see `Check`.

    Raises:
        SpecError: With every mistake, its file, line, and the allowed values.
    """
    spec = _spec_of(Tree.of_file(path), checks)
    return LoadedProject(spec, path.parent, path)


def named_as_folder(path: Path) -> Check:
    """Return a check that a project is called as its folder: commands find it by that name.

    Two folders of one name would write into each other's tables.
    """

    def check(spec: ProjectSpec) -> Iterable[Problem]:
        if spec.name != path.parent.name:
            yield ("name",), f"must be that of its folder, {path.parent.name} (found {spec.name!r})"

    return check


def parse_spec(text: str, file: str, checks: Sequence[Check] = ()) -> ProjectSpec:
    """Return the spec that a project file's text declares; `file` is its name for messages.

    Raises:
        SpecError: With every mistake.
    """
    return _spec_of(Tree(text, file), checks)


def _spec_of(tree: Tree, checks: Sequence[Check]) -> ProjectSpec:
    if tree.problems:
        raise SpecError(tree.problems)
    document = tree.value
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise SpecError([SpecProblem(tree.file, 1, "attributes", "a mapping is required")])
    attributes = document["attributes"]
    found: list[tuple[Location, str]] = []
    if document.get("type") != COMPONENT:
        found.append((("type",), f"must be {COMPONENT}"))
    for key in document:
        if key not in ("type", "attributes"):
            found.append(((key,), "unknown field" + suggest(str(key), ("type", "attributes"))))
    spec: ProjectSpec | None = None
    below: list[Problem] = cross_problems(attributes)
    try:
        spec = ProjectSpec.model_validate(attributes)
    except ValidationError as error:
        found += of_pydantic(tree, error.errors(), [place for place, _ in below])
    else:
        taken = spec.model_dump(by_alias=True)
        below = [*spec.cross_problems(), *booleans(attributes, taken)]
    for check in checks:
        below += check(spec) if spec is not None else _of_valid_sources(attributes, check)
    found += [(("attributes", *location), message) for location, message in below]
    if found or spec is None:
        raise SpecError(_sorted(_problem(tree, *item) for item in found))
    return spec


def _of_valid_sources(attributes: dict[str, Any], check: Check) -> Iterable[Problem]:
    """Run a check on the sources alone, each with its place, where the rest is wrong."""
    rest = {"taxonomy": {"classes": ["a", "b"]}, "calendar": {"start": "2000-01-01"}}
    sources = attributes.get("sources")
    for i, source in enumerate(sources if isinstance(sources, list) else ()):
        try:
            spec = ProjectSpec.model_validate({"name": "project", "sources": [source], **rest})
        except ValidationError:
            continue
        for location, message in check(spec):
            if location[:2] == ("sources", 0):
                yield ("sources", i, *location[2:]), message


def _problem(tree: Tree, location: Location, message: str) -> SpecProblem:
    shown = location[1:] if location[:1] == ("attributes",) else location
    return SpecProblem(tree.file, tree.line(location), dotted(shown), message)


def _sorted(problems: Iterable[SpecProblem]) -> list[SpecProblem]:
    unique = {(p.line or 0, p.path, p.message): p for p in problems}
    return [unique[key] for key in sorted(unique)]
