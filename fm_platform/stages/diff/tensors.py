"""Per-tensor change of two models: norm, relative norm, rank.

Of adapters the dense updates are compared (scaling * B @ A): the factors themselves can be turned
into one another without changing what the adapter computes, and two adapters may differ in rank.

Source of the rank: a difference of two stored matrices holds the rounding error of their
entries. Independent errors of standard deviation s in an m x n matrix have a spectral norm of
about s (sqrt(m) + sqrt(n)) (Vershynin, High-Dimensional Probability, theorem 4.4.5); a singular
value counts where it lies above that, with s = eps * root mean square of the entries, which is
three times the error of rounding to nearest.
"""

from __future__ import annotations

import filecmp
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fm_platform.errors import MissingArtifactError
from fm_platform.stages.diff.records import TensorChange, TensorsChange
from fm_platform.store.manifest import MANIFEST

LARGEST_RANK = 2048
"""Above this smaller side no rank is computed: it would take minutes a matrix."""

_ENTRIES_AT_ONCE = 1 << 24
"""Entries in float64 at once: bounds the memory to a few hundred MB whatever the model."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def tensors_change(before: Path, after: Path) -> TensorsChange:
    """Return how the tensors of two verified model folders differ, one tensor at a time.

    Args:
        before: Folder of the first model: both hold adapters, or both dense weights.
        after: Folder of the second model.

    Raises:
        MergeRefusedError: If an adapter is not plain LoRA.
        MissingArtifactError: If a folder holds no safetensors.
    """
    adapters = [(folder / ADAPTER_WEIGHTS).is_file() for folder in (before, after)]
    changes = _adapter_changes if all(adapters) else _dense_changes
    told = _summed("adapter" if all(adapters) else "dense", changes(before, after))
    return replace(told, files=_other_files(before, after))


def _other_files(before: Path, after: Path) -> tuple[str, ...]:
    """Return the names of the files without tensors that differ; the manifest always does."""
    left, right = (
        {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".safetensors" and path.name != MANIFEST
        }
        for folder in (before, after)
    )
    return tuple(
        name
        for name in sorted({*left, *right})
        if name not in left
        or name not in right
        or not filecmp.cmp(left[name], right[name], shallow=False)
    )


def _summed(form: str, found: Iterator[tuple[TensorChange, float]]) -> TensorsChange:
    tensors, total, of_before, of_change = [], 0, 0.0, 0.0
    for change, before_norm in found:
        total += 1
        of_before += before_norm**2
        if change.status == "changed":
            of_change += change.norm**2
        if change.status != "equal":
            tensors.append(change)
    norm, base = math.sqrt(of_change), math.sqrt(of_before)
    return TensorsChange(
        form, total, total - len(tensors), norm, norm / base if base else None, tuple(tensors)
    )


# --- dense weights ------------------------------------------------------------------------------


def _dense_changes(before: Path, after: Path) -> Iterator[tuple[TensorChange, float]]:
    with ExitStack() as stack:
        left, right = (_opened(folder, stack) for folder in (before, after))
        for name in sorted({*left, *right}):
            one, two = (
                side[name].get_tensor(name) if name in side else None for side in (left, right)
            )
            yield _dense(name, one, two)


def _opened(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Return tensor name -> open file, over all parts of a model."""
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        handle = stack.enter_context(safe_open(path, framework="pt"))
        found.update(dict.fromkeys(handle.keys(), handle))
    if not found:
        raise MissingArtifactError("a model folder holds no tensors", where=folder)
    return found


def _dense(name: str, before: Any, after: Any) -> tuple[TensorChange, float]:
    """Return how one tensor differs, and the norm of the first."""
    if before is None or after is None or before.shape != after.shape:
        there = after if after is not None else before
        status = "new" if before is None else "gone" if after is None else "reshaped"
        own = 0.0 if before is None else _norm(before)
        return TensorChange(name, tuple(there.shape), status, _norm(there)), own
    if before.dtype == after.dtype and _same_bits(before, after):
        return TensorChange(name, tuple(before.shape), "equal", 0.0), _norm(before)
    found = _Gap.of(before, after)
    eps = max(_eps(before), _eps(after))
    deviation = eps * math.sqrt(max(found.before, found.after) / max(before.numel(), 1))
    rank, stable = found.ranks(tuple(before.shape), deviation)
    own, norm = math.sqrt(found.before), math.sqrt(found.gap)
    change = TensorChange(
        name, tuple(before.shape), "changed", norm, norm / own if own else None, found.largest,
        rank, stable,
    )  # fmt: skip
    return change, own


@dataclass
class _Gap:
    """Sums over the entries of two tensors, some rows at a time: squares, largest, Gram matrix."""

    before: float = 0.0
    after: float = 0.0
    gap: float = 0.0
    largest: float = 0.0
    gram: Any = None

    @classmethod
    def of(cls, before: Any, after: Any) -> _Gap:
        """Return the sums of two tensors of one shape."""
        found = cls()
        matrix = before.dim() == 2 and min(before.shape) <= LARGEST_RANK
        if matrix and before.shape[0] < before.shape[1]:  # the Gram matrix of the shorter side
            before, after = before.T, after.T
        if before.dim() != 2:
            before, after = before.reshape(-1, 1), after.reshape(-1, 1)
        rows = max(1, _ENTRIES_AT_ONCE // max(before.shape[1], 1))
        for one, two in zip(before.split(rows), after.split(rows), strict=True):
            one, two = one.double(), two.double()
            gap = two - one
            found.before += float((one**2).sum())
            found.after += float((two**2).sum())
            found.gap += float((gap**2).sum())
            found.largest = max(found.largest, float(gap.abs().max()) if gap.numel() else 0.0)
            if matrix:
                product = gap.T @ gap
                found.gram = product if found.gram is None else found.gram + product
        return found

    def ranks(self, shape: tuple[int, ...], deviation: float) -> tuple[int | None, float | None]:
        """Return rank and stable rank, where every entry carries an error of that deviation."""
        import torch

        if self.gram is None:
            return None, None
        values = torch.linalg.eigvalsh(self.gram).clamp(min=0).sqrt()
        return _ranks(values, deviation * sum(math.sqrt(side) for side in shape))


def _same_bits(before: Any, after: Any) -> bool:
    import torch

    one, two = (t.contiguous().flatten().view(torch.uint8) for t in (before, after))
    return bool(torch.equal(one, two))


def _norm(tensor: Any) -> float:
    parts = tensor.flatten().split(_ENTRIES_AT_ONCE)
    return math.sqrt(sum(float((part.double() ** 2).sum()) for part in parts))


def _eps(tensor: Any) -> float:
    import torch

    return float(torch.finfo(tensor.dtype).eps) if tensor.is_floating_point() else 0.0


def _ranks(values: Any, noise: float) -> tuple[int, float | None]:
    largest = float(values.max()) if values.numel() else 0.0
    if not largest:
        return 0, None
    return int((values > noise).sum()), float((values**2).sum()) / largest**2


# --- adapters -----------------------------------------------------------------------------------


def _adapter_changes(before: Path, after: Path) -> Iterator[tuple[TensorChange, float]]:
    from fm_platform.merging.adapters import read_adapter

    left, right = read_adapter("before", before), read_adapter("after", after)
    names = [set(side.delta_names()) for side in (left, right)]
    for name in sorted(names[0] | names[1]):
        yield _update(
            name,
            _factors(left, name) if name in names[0] else None,
            _factors(right, name) if name in names[1] else None,
        )
    heads = left.head(), right.head()
    for name in sorted({*heads[0], *heads[1]}):
        yield _dense(name, heads[0].get(name), heads[1].get(name))


def _factors(adapter: Any, name: str) -> tuple[Any, Any]:
    """Return (scaling * B, A) in float64, whose product is the dense update [out, in]."""
    module = "base_model.model." + name.removesuffix(".weight")
    b = adapter.tensors[f"{module}.lora_B.weight"].double() * adapter.scaling
    return b, adapter.tensors[f"{module}.lora_A.weight"].double()


def _update(
    name: str, before: tuple[Any, Any] | None, after: tuple[Any, Any] | None
) -> tuple[TensorChange, float]:
    """Return how the dense update of one weight differs, and the norm of the first."""
    import torch

    if before is None or after is None:
        left, right = before or after or (torch.zeros(0, 0), torch.zeros(0, 0))
        norm = float(_singular_values(left, right).norm())
        status, own = ("new", 0.0) if before is None else ("gone", norm)
        return TensorChange(name, (left.shape[0], right.shape[1]), status, norm), own
    first, second = _singular_values(*before), _singular_values(*after)
    own, shape = float(first.norm()), (before[0].shape[0], before[1].shape[1])
    if shape != (after[0].shape[0], after[1].shape[1]):
        return TensorChange(name, shape, "reshaped", float(second.norm())), own
    if all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(before, after, strict=True)):
        return TensorChange(name, shape, "equal", 0.0), own
    left = torch.cat([after[0], -before[0]], dim=1)
    right = torch.cat([after[1], before[1]], dim=0)
    values = _singular_values(left, right)
    norm = float(values.norm())
    noise = torch.finfo(torch.float32).eps * float(max(first.max(), second.max()))
    rank, stable = _ranks(values, noise)
    largest = float((left @ right).abs().max())
    change = TensorChange(
        name, shape, "changed", norm, norm / own if own else None, largest, rank, stable
    )
    return change, own


def _singular_values(left: Any, right: Any) -> Any:
    """Return the singular values of left @ right from the small factors, without the product."""
    import torch

    _, r_left = torch.linalg.qr(left)
    _, r_right = torch.linalg.qr(right.T)
    return torch.linalg.svdvals(r_left @ r_right.T)
