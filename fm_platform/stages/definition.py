"""What a project declared, as an artifact: its spec, files, functions, base, code and packages.

Recorded whenever a run begins. So history holds every definition that ever built something, also
of functions and projects that are gone, and the past can be judged by what was wanted then.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fm_platform.errors import FMError
from fm_platform.hashing import canonical_json, fingerprint, sha256_hex
from fm_platform.labeling.functions import told
from fm_platform.labeling.load import load_functions
from fm_platform.lineage.fingerprints import described
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import machinery, spec_recipe
from fm_platform.lineage.records import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import LexiconFunction, LookupFunction, ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.base_choice import candidates_of
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace

FILE = "definition.json"
_MAX_FILE_BYTES = 4 * 1024 * 1024
T = TypeVar("T")


@dataclass(frozen=True)
class Definition:
    """What a project declared at some time.

    Attributes:
        spec: The project file, resolved.
        files: Path in the project's folder -> text: project file, Python modules, word lists.
        functions: `name`, `kind`, `needs`, `fingerprint`, `source` of every labeling function.
        base_model: Content hash of the base model, with candidates of the first one; None where
            it was not there.
        code: Kind of artifact -> module -> hash of its code.
    """

    spec: ProjectSpec
    files: Mapping[str, str]
    functions: Sequence[Mapping[str, str]]
    base_model: str | None
    code: Mapping[str, Any]


def record_definition(ws: Workspace, project: LoadedProject, run: RunContext) -> ArtifactVersion:
    """Record what the project declares now; what was declared before is reused.

    What cannot be read (a base model that is not there, a module that does not import) is left
    out: the stage that needs it says so itself, and the others can still run.
    """
    spec, files = project.spec, project_files(project)
    functions = _if_readable(lambda: load_functions(spec, project.directory)) or ()
    base_model = _if_readable(lambda: resolve_base_model(spec.base_model, project.directory))
    base = base_model.content_hash if base_model else None
    taxonomy = spec.taxonomy.model_dump(mode="json")
    inputs = [
        *(Input("file", name, None, sha256_hex(text.encode())) for name, text in files.items()),
        *(Input("function", f.name, None, f.fingerprint) for f in functions),
        Input("taxonomy", "taxonomy", None, fingerprint(taxonomy)),
        *([Input("base_model", "base_model", None, base)] if base else []),
        *(
            Input("candidate", one.label, None, one.base.content_hash)
            for one in candidates_of(project)
            if one.base is not None
        ),
        *machinery(spec),
    ]
    documents: list[tuple[str, str, Any]] = [
        *((sha256_hex(t.encode()), "file", {"name": n, "text": t}) for n, t in files.items()),
        *((f.fingerprint, "function", told(f)) for f in functions),
        (fingerprint(taxonomy), "taxonomy", taxonomy),
        *described(i.content_hash for i in inputs if i.role in ("code", "environment")),
    ]
    recipe = spec_recipe(spec, inputs)
    whole = {
        "spec": dict(recipe.config),
        "files": files,
        "functions": [told(function) for function in functions],
        "base_model": base,
        "documents": {hash_: body for hash_, kind, body in documents if kind != "file"},
        "inputs": [[i.role, i.name, i.content_hash] for i in inputs],
    }
    built = tables.build(ws, recipe, lambda lease: _publish(ws, recipe, whole, lease), run)
    for hash_, kind, body in documents:
        ws.ledger.remember(hash_, kind, body)
    return built.version


def _publish(ws: Workspace, recipe: Recipe, whole: Mapping[str, Any], lease: Lease) -> Produced:
    staged = ws.home.work / f"definition-{uuid.uuid4().hex}"
    staged.mkdir(parents=True)
    identity = {
        "project": recipe.project, "kind": recipe.kind, "name": recipe.name,
        "recipe_hash": recipe.hash,
    }  # fmt: skip
    try:
        (staged / FILE).write_text(canonical_json(whole), "utf-8")
        ws.ledger.check_lease(lease)
        ref = ws.models.publish(staged, identity)
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # publishing takes it over
    return Produced(ref.content_hash, {"model": ref.content_hash}, bytes=ref.bytes)


def read_definition(ws: Workspace, version: ArtifactVersion) -> Definition:
    """Return a recorded definition, with every byte verified.

    Raises:
        FMError: If the version is no definition.
    """
    if version.kind != "spec" or "model" not in version.location:
        raise FMError(f"{version.name} #{version.id} is no recorded definition")
    whole = json.loads((ws.model_path(version) / FILE).read_text("utf-8"))
    code = {
        name: whole["documents"].get(hash_)
        for role, name, hash_ in whole["inputs"]
        if role == "code"
    }
    return Definition(
        ProjectSpec.model_validate(whole["spec"]),
        whole["files"],
        whole["functions"],
        whole["base_model"],
        code,
    )


def write_project(definition: Definition, folder: Path) -> LoadedProject:
    """Write the files of a definition into a folder and return the project that they declare.

    Raises:
        SpecError: If today's platform does not accept the project file any more.
    """
    from fm_platform.spec.load import load_spec
    from fm_platform.store.files import safe_relative

    for name, text in definition.files.items():
        path = folder / safe_relative(name, "file name in a definition")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return load_spec(folder / "defs.yaml")


def project_files(project: LoadedProject) -> dict[str, str]:
    """Return path -> text of what declares a project: file, Python modules, word lists, unit set.

    Rows are not among them: sources count by the hash of what they hold.
    """
    folder = project.directory
    paths = {project.file, *(p for p in folder.rglob("*.py") if not _hidden(p, folder))}
    if project.spec.unit is not None:
        paths.add(folder / project.spec.unit.file)
    for function in project.spec.labeling.functions:
        if isinstance(function, LexiconFunction) and function.file is not None:
            paths.add(folder / function.file)
        elif isinstance(function, LookupFunction):
            paths.add(folder / function.table)
    found = {}
    for path in sorted(paths):
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            continue  # it still counts, in the fingerprint of the function that reads it
        try:
            found[path.relative_to(folder).as_posix()] = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)


def _if_readable(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except FMError:
        return None
