"""Merge methods as pure functions of one tensor at a time: an update per expert in, one out.

An update is what an expert changed: its tensor minus what all experts began from. Methods that
weigh by what an expert knows (`NEEDS`) read a second tensor per expert, see `merging.knowledge`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fm_platform.errors import MergeRefusedError
from fm_platform.hashing import sha256_hex
from fm_platform.registry import Registry

Tensor = Any


@dataclass(frozen=True)
class Layer:
    """One tensor of a model, as every expert changed it.

    Attributes:
        name: Of the tensor.
        updates: One per expert, of one shape and dtype.
        knowledge: One per expert, where the method needs it: `fisher` of the shape of an update,
            `gram` [in, in]; otherwise empty.
    """

    name: str
    updates: Sequence[Tensor]
    knowledge: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Settings:
    """What a method can be told.

    Attributes:
        density: Share of entries that stay, in (0, 1]: TIES and DARE.
        rank: Of the result: SVD. None: full.
        seed: Of what DARE drops.
    """

    density: float = 0.5
    rank: int | None = None
    seed: int = 0


MergeMethod = Callable[[Layer, Sequence[float], Settings], Tensor]
METHODS: Registry[MergeMethod] = Registry("merge method", "fm_platform.merge_methods")
# What a method must know of each expert.
NEEDS: dict[str, str] = {"fisher": "fisher", "regmean": "gram"}
# RegMean: off-diagonal entries of a Gram matrix count for this much (its section 4.2).
_OFF_DIAGONAL = 0.9
_EPSILON = 1e-12
_BLOCK = 1 << 18  # entries that are merged at a time


def layer(*updates: Tensor, name: str = "", knowledge: Sequence[Tensor] = ()) -> Layer:
    """Return a layer of these updates."""
    return Layer(name, updates, knowledge)


def _checked(layer: Layer, weights: Sequence[float], needs: str = "") -> None:
    if not layer.updates or len(layer.updates) != len(weights):
        raise MergeRefusedError(
            "a merge needs one weight per update", where=layer.name or None,
            expected=len(layer.updates), found=len(weights),
        )  # fmt: skip
    shapes = {tuple(update.shape) for update in layer.updates}
    if len(shapes) != 1:
        raise MergeRefusedError(
            "updates of different shapes", where=layer.name or None, found=sorted(shapes)
        )
    if needs and len(layer.knowledge) != len(weights):
        raise MergeRefusedError(
            f"this method needs the {needs} of every expert", where=layer.name or None,
            expected=len(weights), found=len(layer.knowledge),
        )  # fmt: skip


def _not_negative(name: str, weights: Sequence[float]) -> None:
    if min(weights) < 0:
        raise MergeRefusedError(
            f"{name} takes weights of at least 0",
            found=f"weights {list(weights)}",
            next_step="linear takes any sign: a negative weight makes the model forget a task",
        )


def _dense_enough(name: str, density: float) -> None:
    if not 0 < density <= 1:
        raise MergeRefusedError(f"{name} takes a density in (0, 1]", found=density)


def weighted_sum(layer: Layer, weights: Sequence[float]) -> Tensor:
    """Return sum_i w_i * update_i.

    Raises:
        MergeRefusedError: If shapes or counts differ.
    """
    _checked(layer, weights)
    merged = layer.updates[0] * weights[0]
    for update, weight in zip(layer.updates[1:], weights[1:], strict=True):
        merged = merged + update * weight
    return merged


@METHODS.register("linear")
def linear(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Return sum_i w_i * update_i (task arithmetic; Ilharco et al. 2022, arXiv 2212.04089).

    A negative weight negates a task: the model forgets it.

    Raises:
        MergeRefusedError: If shapes or counts differ.
    """
    return weighted_sum(layer, weights)


@METHODS.register("ties")
def ties(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Trim, elect signs, and average what agrees (Yadav et al. 2023, arXiv 2306.01708).

    Each update keeps its `density` largest entries by magnitude. The sign of each entry is that
    of the weighted sum; the result is the weighted mean of the entries with that sign, times the
    sum of the weights. One update at density 1 and weight 1 comes back unchanged.

    Raises:
        MergeRefusedError: If shapes or counts differ, a weight is negative, or the density is
            not in (0, 1].
    """
    _checked(layer, weights)
    _not_negative("TIES", weights)
    _dense_enough("TIES", settings.density)
    return _elected([trim(update, settings.density) for update in layer.updates], weights)


@METHODS.register("dare")
def dare(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Drop entries at random and rescale the rest (Yu et al. 2023, arXiv 2311.03099), then add.

    An entry stays with probability `density` and is divided by it, so that the expectation of
    the result is the linear merge. What stays follows from seed, layer and position alone.

    Raises:
        MergeRefusedError: If shapes or counts differ, or the density is not in (0, 1].
    """
    _checked(layer, weights)
    _dense_enough("DARE", settings.density)
    return weighted_sum(Layer(layer.name, _dropped(layer, settings)), weights)


@METHODS.register("dare_ties")
def dare_ties(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Drop and rescale as DARE does, then elect signs as TIES does, without its trimming.

    Raises:
        MergeRefusedError: As `dare` and `ties`.
    """
    _checked(layer, weights)
    _not_negative("TIES", weights)
    _dense_enough("DARE", settings.density)
    return _elected(_dropped(layer, settings), weights)


@METHODS.register("slerp")
def slerp(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Interpolate two updates along the arc between them (Shoemake 1985).

    With t = w_2 / (w_1 + w_2) the direction turns by t of the angle, and the length goes from
    one to the other in proportion; the result is times w_1 + w_2. Where one is zero or both lie
    on one line, it is the linear merge.

    Raises:
        MergeRefusedError: If there are not two, a weight is negative, or shapes differ.
    """
    import torch

    _checked(layer, weights)
    _not_negative("SLERP", weights)
    if len(layer.updates) != 2:
        raise MergeRefusedError(
            "SLERP merges two", found=len(layer.updates), next_step="take another merge.method"
        )
    total = float(sum(weights))
    lengths = [float(torch.linalg.vector_norm(update.double())) for update in layer.updates]
    if total == 0 or min(lengths) == 0:
        return weighted_sum(layer, weights)
    first, second = layer.updates
    cosine = float((first.double() * second.double()).sum()) / (lengths[0] * lengths[1])
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    t = weights[1] / total
    if math.sin(angle) < 1e-6:
        return weighted_sum(layer, weights)
    length = (1 - t) * lengths[0] + t * lengths[1]
    along = (
        first * (math.sin((1 - t) * angle) / lengths[0])
        + second * (math.sin(t * angle) / lengths[1])
    ) / math.sin(angle)  # fmt: skip
    return along * (length * total)


@METHODS.register("svd")
def svd(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Return the best approximation of the linear merge with `rank` (Eckart and Young 1936).

    Tensors that are no matrix, and a rank of None, give the linear merge.

    Raises:
        MergeRefusedError: If shapes or counts differ.
    """
    import torch

    merged = weighted_sum(layer, weights)
    if settings.rank is None or merged.dim() != 2 or settings.rank >= min(merged.shape):
        return merged
    left, values, right = torch.linalg.svd(merged.double(), full_matrices=False)
    rank = settings.rank
    return ((left[:, :rank] * values[:rank]) @ right[:rank]).to(merged.dtype)


@METHODS.register("fisher")
def fisher(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Average each entry by how much each expert's answers depend on it.

    sum_i w_i F_i u_i / sum_i w_i F_i, times sum_i w_i, with the diagonal of the Fisher
    information (Matena and Raffel 2021, arXiv 2111.09832, equation 4, of what all began from).
    Where nobody depends on an entry, it is the linear merge.

    Raises:
        MergeRefusedError: If shapes or counts differ, or a weight is negative.
    """
    import torch

    _checked(layer, weights, "Fisher information")
    _not_negative("Fisher-weighted averaging", weights)
    parts = [f.double() * w for f, w in zip(layer.knowledge, weights, strict=True)]
    mass = torch.stack(parts).sum(dim=0)
    weighed = torch.stack(
        [part * u.double() for part, u in zip(parts, layer.updates, strict=True)]
    ).sum(dim=0)
    merged = weighed / mass.clamp_min(torch.finfo(mass.dtype).tiny) * float(sum(weights))
    plain = weighted_sum(layer, weights)
    return torch.where(mass > 0, merged, plain.double()).to(plain.dtype)


@METHODS.register("regmean")
def regmean(layer: Layer, weights: Sequence[float], settings: Settings) -> Tensor:
    """Return the linear layer whose outputs are nearest to every expert's on its own inputs.

    U' = (sum_i w_i G_i)^-1 sum_i w_i G_i U_i', times sum_i w_i, with G_i = X_i' X_i and its
    off-diagonal entries times 0.9 (Jin et al. 2022, arXiv 2212.09849, equation 2; in updates,
    for what all began from cancels). Tensors that are no matrix are averaged.

    Raises:
        MergeRefusedError: If shapes or counts differ, or a weight is negative.
    """
    import torch

    _checked(layer, weights, "Gram matrix")
    _not_negative("RegMean", weights)
    plain = weighted_sum(layer, weights)
    if plain.dim() != 2 or sum(weights) == 0:
        return plain
    grams = [_shrunk(gram.double()) * w for gram, w in zip(layer.knowledge, weights, strict=True)]
    left = torch.stack(grams).sum(dim=0)
    right = torch.stack(
        [gram @ update.double().T for gram, update in zip(grams, layer.updates, strict=True)]
    ).sum(dim=0)
    # inputs that were never seen leave the system singular; a little of the identity keeps the
    # mean there
    ridge = _EPSILON + 1e-6 * float(left.diagonal().mean())
    mean = plain.double().T / float(sum(weights))
    eye = torch.eye(left.shape[0], dtype=left.dtype)
    solved = torch.linalg.solve(left + ridge * eye, right + ridge * mean)
    return (solved.T * float(sum(weights))).to(plain.dtype)


def trim(update: Tensor, density: float) -> Tensor:
    """Return `update` with all but its `density` largest entries by magnitude set to zero."""
    import torch

    keep = max(1, round(density * update.numel()))
    if keep >= update.numel():
        return update
    flat = update.reshape(-1)
    sizes = flat.abs()
    # selecting is linear where sorting is not: the least that stays, and of those equal to it
    # the first, so that ties are deterministic
    least = _at(sizes, flat.numel() - keep)
    smaller = sizes < least
    out = flat.masked_fill(smaller, 0)
    surplus = flat.numel() - int(smaller.sum()) - keep
    if surplus:
        out[torch.nonzero(sizes == least).reshape(-1)[-surplus:]] = 0
    return out.reshape(update.shape)


def _at(values: Tensor, place: int) -> float:
    """Return the value that sorting would bring to a place; NaN last."""
    import torch

    known = values.float() if values.dtype == torch.bfloat16 else values  # numpy does not know it
    array = known.numpy(force=True).copy()
    array.partition(place)  # vectorised where the processor allows, and without an array of places
    return float(array[place])


def sign_conflict_rate(updates: Sequence[Tensor]) -> float:
    """Return the share of entries on which two non-zero updates differ in sign; 0 for one."""
    import torch

    stacked = torch.stack(list(updates))
    positive, negative = (stacked > 0).any(dim=0), (stacked < 0).any(dim=0)
    return float((positive & negative).float().mean())


def _elected(updates: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted mean of what agrees with the sign of the weighted sum, times its mass."""
    import torch

    flat = [update.reshape(-1) for update in updates]
    out = torch.empty_like(flat[0])
    for first in range(0, len(out), _BLOCK):  # in the cache of a processor, and in little memory
        part = slice(first, first + _BLOCK)
        stacked = torch.stack([update[part] for update in flat])
        scale = torch.tensor(list(weights), dtype=stacked.dtype).reshape(-1, 1)
        scaled = stacked * scale
        chosen = torch.sign(scaled.sum(dim=0))
        agrees = (torch.sign(stacked) == chosen) & (stacked != 0)
        mass = (scale * agrees).sum(dim=0)
        merged = (scaled * agrees).sum(dim=0) / mass.clamp_min(_EPSILON)
        out[part] = torch.where(mass > 0, merged, 0.0) * float(sum(weights))
    return out.reshape(updates[0].shape)


def _dropped(layer: Layer, settings: Settings) -> list[Tensor]:
    """Return the updates after DARE's drop and rescale."""
    import torch

    if settings.density == 1:
        return list(layer.updates)
    found = []
    for position, update in enumerate(layer.updates):
        generator = torch.Generator().manual_seed(
            int(sha256_hex(f"{settings.seed}\0{layer.name}\0{position}".encode())[:15], 16)
        )
        stays = torch.rand(update.shape, generator=generator) < settings.density
        found.append(torch.where(stays, update / settings.density, torch.zeros_like(update)))
    return found


def _shrunk(gram: Tensor) -> Tensor:
    import torch

    return gram * _OFF_DIAGONAL + torch.diag(gram.diagonal()) * (1 - _OFF_DIAGONAL)
