"""Contributions: the most important entries of an update, in one small file, applied exactly.

Sung, Nair & Raffel 2021, "Training Neural Networks with Fixed Sparse Masks", arXiv 2111.09839:
many contributors, one base, and a hundredth of the bytes from each of them.

A file holds for each tensor that it changes the places of the entries and their new values, of the
type that the tensor has. Values, not differences: base + difference would be rounded, and what was
trained comes back bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from fm_platform.errors import CorruptArtifactError, FMError, MergeRefusedError
from fm_platform.fisher import largest
from fm_platform.hashing import canonical_json, sha256_hex
from fm_platform.merging.gaps import packed, unpacked
from fm_platform.store.files import atomic_write

Tensor = Any
Importance = Literal["fisher_change", "fisher", "change"]
"""What of an entry makes it important: its Fisher information, the square of its change, or their
product, twice the divergence of the answers that the change makes, to second order."""
IMPORTANCES: tuple[Importance, ...] = get_args(Importance)
_FORMAT = "fm-contribution-1"
_PLACES, _VALUES = "places/", "values/"


@dataclass(frozen=True)
class Entries:
    """The new entries of one tensor.

    Attributes:
        places: Flat places, int64, ascending.
        values: One each, of the type of the tensor.
        shape: Of the whole tensor.
    """

    places: Tensor
    values: Tensor
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Contribution:
    """A sparse update of one base.

    Attributes:
        base: Hash of the tensors that it changes; see `tensors_hash`.
        entries: Tensor name -> what is new of it.
        facts: What it is, as JSON values: share, importance, parameters, changed, and what its
            maker adds.
    """

    base: str
    entries: Mapping[str, Entries]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many entries it changes."""
        return sum(len(one.places) for one in self.entries.values())

    @cached_property
    def content_hash(self) -> str:
        """Hash of base, facts, places and values."""
        return _content(self._head(), _tensors(self))

    def _head(self) -> dict[str, Any]:
        shapes = {name: list(one.shape) for name, one in sorted(self.entries.items())}
        return {
            "format": _FORMAT, "base": self.base, "shapes": shapes, "facts": dict(self.facts),
        }  # fmt: skip


@dataclass(frozen=True)
class Applied:
    """A base with contributions.

    Attributes:
        state: Tensor name -> tensor.
        entries: How many entries are other than declared by the base.
        conflicts: How many of them more than one contribution changes.
    """

    state: dict[str, Tensor]
    entries: int
    conflicts: int


def tensors_hash(state: Mapping[str, Tensor]) -> str:
    """Return a hash of the names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def contribution(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    share: float,
    importance: Importance = "fisher_change",
    fisher: Mapping[str, Tensor] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Contribution:
    """Return the most important entries of tuned - base: `share` of the parameters, at most.

    Where no more entries changed than that, all are taken and nothing is lost.

    Args:
        base: Tensors of what was fine-tuned.
        tuned: The same afterwards.
        share: Of all entries of floating-point tensors, in (0, 1].
        importance: What makes an entry important.
        fisher: Name -> Fisher information of the entries; tensors without it count as 0.
        facts: More about it, as JSON values.

    Raises:
        MergeRefusedError: If the tensors do not fit together, a changed tensor holds whole numbers
            or values that are not finite, nothing changed, or Fisher information is needed and
            there is none.
    """
    import torch

    if not 0 < share <= 1:
        raise MergeRefusedError("a share lies in (0, 1]", found=share)
    _require_alike(base, tuned)
    changed = {n: tuned[n] != base[n] for n in sorted(base) if not torch.equal(tuned[n], base[n])}
    parameters = sum(t.numel() for t in base.values() if t.is_floating_point())
    total, most = sum(int(mask.sum()) for mask in changed.values()), round(share * parameters)
    if total == 0:
        raise MergeRefusedError("nothing was changed, so there is nothing to contribute")
    if total <= most:
        chosen = {
            name: torch.nonzero(mask.reshape(-1)).reshape(-1) for name, mask in changed.items()
        }
        importance_told = "whole"
    else:
        chosen = largest(_importance(base, tuned, changed, importance, fisher), most)
        importance_told = importance
    entries = {
        name: Entries(places, tuned[name].reshape(-1)[places].clone(), tuple(base[name].shape))
        for name, places in chosen.items()
    }
    told = {
        "share": share, "importance": importance_told, "parameters": parameters, "changed": total,
    }  # fmt: skip
    return Contribution(tensors_hash(base), entries, {**(facts or {}), **told})


def _require_alike(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> None:
    import torch

    wrong = [f"{name} is on one side only" for name in sorted(base.keys() ^ tuned.keys())]
    for name in sorted(base.keys() & tuned.keys()):
        one, two = base[name], tuned[name]
        if one.shape != two.shape or one.dtype != two.dtype:
            wrong.append(f"{name}: {tuple(two.shape)} {two.dtype}")
        elif not one.is_floating_point() and not torch.equal(one, two):
            wrong.append(f"{name} holds whole numbers and changed")
        elif one.is_floating_point() and not bool(torch.isfinite(two).all()):
            wrong.append(f"{name} is not finite")
    if wrong:
        raise MergeRefusedError(
            "this is no update of that base", expected="the same tensors, finite",
            found="; ".join(wrong[:5]),
        )  # fmt: skip


def _importance(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    changed: Mapping[str, Tensor],
    kind: Importance,
    fisher: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """Return how important each changed entry is; 0 for what did not change."""
    import torch

    if kind not in IMPORTANCES:
        raise MergeRefusedError("no such importance", expected=", ".join(IMPORTANCES), found=kind)
    if kind != "change" and not fisher:
        raise MergeRefusedError(
            f"the importance {kind} needs Fisher information, and there is none",
            next_step="give dev rows, or take the importance change",
        )
    found = {}
    for name, mask in changed.items():
        weight = mask.double()
        if kind != "fisher":
            weight = (tuned[name].double() - base[name].double()).square()
        if kind != "change":
            known = (fisher or {}).get(name)
            weight = weight * (torch.zeros_like(weight) if known is None else known.double())
        found[name] = weight
    return found


def applied(base: Mapping[str, Tensor], contributions: Sequence[Contribution]) -> Applied:
    """Return the base with contributions.

    An entry that one of them changes gets its value, bit for bit; one that several change gets
    base + the sum of their changes. The order of the contributions changes nothing.

    Raises:
        MergeRefusedError: If one is for another base, does not fit it, or comes twice.
    """
    import torch

    known = tensors_hash(base)
    ordered = sorted(contributions, key=lambda one: one.content_hash)
    for one in ordered:
        _require_for(one, base, known)
    if len({one.content_hash for one in ordered}) < len(ordered):
        raise MergeRefusedError("a contribution is given twice", next_step="give each of them once")
    state, entries, conflicts = dict(base), 0, 0
    for name in sorted({name for one in ordered for name in one.entries}):
        parts = [one.entries[name] for one in ordered if name in one.entries]
        places, counts = torch.unique(torch.cat([p.places for p in parts]), return_counts=True)
        flat = base[name].reshape(-1).clone()
        begun = flat[places].double()
        summed = begun.clone()
        for part in parts:
            at = torch.searchsorted(places, part.places)
            summed[at] += part.values.double() - begun[at]
        flat[places] = summed.to(flat.dtype)
        for part in parts:  # a sum would be rounded
            alone = counts[torch.searchsorted(places, part.places)] == 1
            flat[part.places[alone]] = part.values[alone]
        state[name] = flat.reshape(base[name].shape)
        entries += len(places)
        conflicts += int((counts > 1).sum())
    return Applied(state, entries, conflicts)


def _require_for(one: Contribution, base: Mapping[str, Tensor], known: str) -> None:
    if one.base != known:
        raise MergeRefusedError(
            "the contribution is for another base", expected=one.base[:12], found=known[:12],
            next_step="apply it to the model that it was made for",
        )  # fmt: skip
    _require_sound(one, "the contribution")
    wrong = []
    for name, entries in sorted(one.entries.items()):
        tensor = base.get(name)
        expected = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        if expected != (entries.shape, entries.values.dtype):
            wrong.append(f"{name}: {entries.shape} {entries.values.dtype}, not {expected}")
    if wrong:
        raise MergeRefusedError(
            "the contribution does not fit its base", expected="shapes and types of its tensors",
            found="; ".join(wrong[:5]),
        )  # fmt: skip


def _require_sound(one: Contribution, where: object) -> None:
    for name, entries in sorted(one.entries.items()):
        problem = _problem(entries)
        if problem:
            raise MergeRefusedError(
                "the entries of a contribution are not sound", where=f"{where}: {name}",
                expected="ascending places inside the tensor, one finite value each", found=problem,
            )  # fmt: skip


def _problem(entries: Entries) -> str:
    """Return what is wrong with entries by themselves; empty where nothing is."""
    import torch

    places, values = entries.places, entries.values
    if places.shape != values.shape or places.dim() != 1:
        return f"{tuple(places.shape)} places and {tuple(values.shape)} values"
    if not len(places):
        return ""
    if int(places[0]) < 0 or bool((places[1:] <= places[:-1]).any()):
        return "places that do not ascend"
    if int(places[-1]) >= torch.Size(entries.shape).numel():
        return f"place {int(places[-1])} of {torch.Size(entries.shape).numel()}"
    return "" if bool(torch.isfinite(values).all()) else "a value that is not finite"


def write_contribution(one: Contribution, path: Path) -> int:
    """Write a contribution as one safetensors file; equal ones give equal bytes. Return its size.

    Raises:
        MergeRefusedError: If places do not ascend or lie outside their tensors.
    """
    from safetensors.torch import save

    _require_sound(one, path)
    head = {**one._head(), "content": one.content_hash}
    # one key: the format keeps several in no order
    data = save(_tensors(one), {"contribution": canonical_json(head)})
    atomic_write(path, data)
    return len(data)


def read_contribution(path: Path) -> Contribution:
    """Read a contribution, every byte checked.

    Raises:
        FMError: If there is no such file.
        CorruptArtifactError: If the file is damaged, or no contribution.
        MergeRefusedError: If places do not ascend or lie outside their tensors.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FMError("there is no such file", where=path, expected="a contribution")
    try:
        with safe_open(str(path), "pt") as file:
            head = json.loads((file.metadata() or {})["contribution"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        content = head.pop("content")
        if head["format"] != _FORMAT or _content(head, tensors) != content:
            raise ValueError("its content is not what its hash says")
        entries = {
            name: Entries(
                unpacked(tensors[_PLACES + name]), tensors[_VALUES + name], tuple(shape)
            )
            for name, shape in head["shapes"].items()
        }  # fmt: skip
        found = Contribution(head["base"], entries, head["facts"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(
            "this file is damaged, or no contribution", where=path,
            found=f"{type(error).__name__}: {str(error)[:200]}",
            next_step="fetch it again from who made it",
        ) from error  # fmt: skip
    _require_sound(found, path)
    return found


def _tensors(one: Contribution) -> dict[str, Tensor]:
    found = {}
    for name, entries in sorted(one.entries.items()):
        found[_PLACES + name] = packed(entries.places)
        found[_VALUES + name] = entries.values.contiguous()
    return found


def _content(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return sha256_hex(canonical_json([head, tensors_hash(tensors)]).encode())


def _bytes(tensor: Tensor) -> Any:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b""
