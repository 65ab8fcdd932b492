"""Between the files of a model folder and the objects that hold them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fm_platform.errors import MissingArtifactError
from fm_platform.store import tensors
from fm_platform.store.manifest import Layout, Manifest
from fm_platform.store.objects import FILE, TENSOR, ObjectName, ObjectStore, digest, mapped
from fm_platform.store.refs import ModelRef


def store_files(
    objects: ObjectStore, folder: Path, ref: ModelRef
) -> tuple[Layout, list[ObjectName]]:
    """Store what is new of the files of a folder, and sync it.

    Returns:
        The layout for the manifest, and the objects that were not there before.
    """
    layout: Layout = {}
    fresh: list[ObjectName] = []
    for file in ref.files:
        with mapped(folder / file.path) as data:
            parsed = tensors.parse(data) if file.path.endswith(".safetensors") else None
            if parsed is None:
                name = ObjectName(file.sha256, FILE)
                fresh += [name] if objects.put(name, [data]) else []
                continue
            listed = []
            for span in parsed.tensors:
                pieces = (tensors.single_header(span), data[span.start : span.end])
                name = ObjectName(digest(pieces), TENSOR)
                fresh += [name] if objects.put(name, pieces) else []
                listed.append(name.sha256)
                del pieces  # a mapped file is closed only when nobody looks at it
            layout[file.path] = {"header": parsed.header, "objects": listed}
    objects.sync(fresh)
    return layout, fresh


def write_files(objects: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Write the files of a model kept as objects into the new `folder`; unverified.

    Raises:
        MissingArtifactError: If an object is missing.
    """
    folder.mkdir(parents=True)
    for file in manifest.ref.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        told = (manifest.layout or {}).get(file.path)
        with path.open("xb") as stream:
            if told is None:
                with objects.read(ObjectName(file.sha256, FILE)) as data:
                    stream.write(data)
                continue
            stream.write(tensors.prefix(told["header"]))
            for sha256 in told["objects"]:
                with objects.read(ObjectName(sha256, TENSOR)) as data:
                    stream.write(tensors.payload(data))


def link_files(objects: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Write a model into the new `folder` as links to its objects, each tensor a shard.

    Readers of sharded checkpoints (transformers, vLLM, ...) find the tensors by the index file
    beside them (https://huggingface.co/docs/transformers/big_models). So one more copy of a
    model costs nothing on the same disk.

    Raises:
        MissingArtifactError: If an object is missing.
    """
    folder.mkdir(parents=True)
    for file in manifest.ref.files:
        told = (manifest.layout or {}).get(file.path)
        path = folder / file.path
        if told is None:
            _link(objects, ObjectName(file.sha256, FILE), path)
            continue
        stem, count = path.name.removesuffix(".safetensors"), len(told["objects"])
        placed = {}
        pairs = zip(tensors.names(told["header"]), told["objects"], strict=True)
        for number, (tensor, sha256) in enumerate(pairs, start=1):
            shard = f"{stem}-{number:05d}-of-{count:05d}.safetensors"
            _link(objects, ObjectName(sha256, TENSOR), path.with_name(shard))
            placed[tensor] = shard
        size = file.bytes - len(tensors.prefix(told["header"]))
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
        path.with_name(f"{path.name}.index.json").write_text(json.dumps(index, indent=1), "utf-8")


def _link(objects: ObjectStore, name: ObjectName, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(objects.path(name), target)
    except FileNotFoundError as error:
        raise MissingArtifactError(
            "an object of a model is missing", where=objects.path(name)
        ) from error
    except OSError:  # another disk, or one without links
        shutil.copyfile(objects.path(name), target)


def objects_of(manifest: Manifest) -> Iterator[tuple[str, ObjectName]]:
    """Yield what each object is to a model, and its name; nothing for a folder of files.

    What it is reads `path` for a file and `path: tensor` for a tensor.
    """
    if manifest.layout is None:
        return
    for file in manifest.ref.files:
        told = manifest.layout.get(file.path)
        if told is None:
            yield file.path, ObjectName(file.sha256, FILE)
            continue
        for tensor, sha256 in zip(tensors.names(told["header"]), told["objects"], strict=True):
            yield f"{file.path}: {tensor}", ObjectName(sha256, TENSOR)
