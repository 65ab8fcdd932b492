"""The frozen lower layers: what they give for a text, and training on what they gave.

The hidden states below the first trained layer depend on the base model and on the tokens of a
text, on nothing else. They are computed once, kept in half precision, and stand for the lower
layers whenever something above them is trained: then neither the lower layers nor their
gradients cost anything. (Frozen feature extraction is old; that the states are artifacts with
a hash is ours.)

What is computed for a text must not depend on the texts beside it, or a cache that was filled in
two goes would differ from one that was filled in one. So every batch has one of a few fixed
shapes; a row of a product of matrices of one shape is the same at every place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fm_platform.errors import TrainingError
from fm_platform.training.base_model import BaseModel, new_encoder

Half = npt.NDArray[np.float16]
_BATCH_TOKENS = 512
_STEP = 8


class States(Protocol):
    """Where the states of a text are looked up."""

    def get(self, key: bytes) -> Half | None:
        """Return float16[tokens, width]; None where the text is not known."""


def key_of(tokens: Sequence[int] | npt.NDArray[Any]) -> bytes:
    """Return what a text is known by: 16 bytes of BLAKE2b over its token ids.

    The ids are text, tokenizer and largest length in one.
    """
    ids = np.asarray(tokens, np.int32)
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


def layer_stack(model: Any) -> tuple[Any, str]:
    """Return (module, name) of the list of layers of a transformer.

    Raises:
        TrainingError: If the model has no such list, one layer for each hidden layer.
    """
    import torch

    depth = getattr(model.config, "num_hidden_layers", None)
    for name, module in sorted(model.named_modules(), key=lambda item: item[0].count(".")):
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            parent, _, last = name.rpartition(".")
            return model.get_submodule(parent), last
    raise TrainingError(
        "the layers of this base model cannot be frozen one by one",
        expected=f"a list of {depth} layers",
        found=type(model).__name__,
        next_step="leave training.frozen_layers at 0",
    )


def require_layers(model: Any, frozen: int) -> None:
    """Refuse to freeze all layers, or more than there are.

    Raises:
        TrainingError: Naming how many can be.
    """
    parent, name = layer_stack(model)
    depth = len(getattr(parent, name))
    if not frozen < depth:
        raise TrainingError(
            "training.frozen_layers leaves no layer to train",
            expected=f"at most {depth - 1}",
            found=frozen,
        )


class _Reached(Exception):  # noqa: N818  no error: it ends a forward pass early
    def __init__(self, states: Any) -> None:
        self.states = states


def prefix_states(
    base: BaseModel,
    frozen: int,
    texts: Sequence[Sequence[int]],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Half]]:
    """Yield (position, float16[tokens, width]): the states below layer `frozen`, in any order.

    Args:
        base: The base model.
        frozen: How many lower layers, 1 or more.
        texts: Token ids of each text, special tokens included.
        on_progress: Told of texts done and in all.

    Raises:
        TrainingError: If the model has too few layers, or a state does not fit half precision.
        BaseModelError: If the base cannot be used.
    """
    import torch

    if not texts:
        return
    model = new_encoder(base)
    require_layers(model, frozen)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    parent, name = layer_stack(model)
    layer = getattr(parent, name)[frozen]
    hook = layer.register_forward_pre_hook(_stop, with_kwargs=True)
    pad = model.config.pad_token_id or 0
    limit = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)
    done = 0
    try:
        for batch, width, height in _batches([len(text) for text in texts], limit):
            ids = torch.full((height, width), pad, dtype=torch.long)
            mask = torch.zeros((height, width), dtype=torch.long)
            mask[:, 0] = 1  # rows that only fill up
            for i, position in enumerate(batch):
                tokens = texts[position]
                ids[i, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
                mask[i, : len(tokens)] = 1
            states = _run(model, ids.to(device), mask.to(device))
            for i, position in enumerate(batch):
                yield position, _half(states[i, : len(texts[position])])
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(texts))
    finally:
        hook.remove()


def _stop(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _Reached(args[0] if args else kwargs["hidden_states"])


def _run(model: Any, ids: Any, mask: Any) -> Any:
    import torch

    with torch.inference_mode():
        try:
            model(input_ids=ids, attention_mask=mask)
        except _Reached as reached:
            return reached.states.float().cpu().numpy()
    raise TrainingError("the first trained layer was not reached", where=type(model).__name__)


def _half(states: npt.NDArray[np.float32]) -> Half:
    with np.errstate(over="ignore"):
        half: Half = states.astype(np.float16)
    if not np.isfinite(half).all():
        raise TrainingError(
            "the hidden states of this base model do not fit half precision",
            expected="values below 65,504",
            found=float(np.abs(states).max()),
            next_step="leave training.frozen_layers at 0",
        )
    return half


def _batches(lengths: Sequence[int], limit: int) -> Iterator[tuple[list[int], int, int]]:
    """Yield (positions, width, rows) of batches whose shapes depend on the width alone.

    At least one token of padding in every row, so that no batch is without a mask: attention
    without one is another computation. At the limit of the model a row that only fills up.
    """
    buckets: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        width = min(limit, (length // _STEP + 1) * _STEP)
        buckets.setdefault(width, []).append(position)
    for width, positions in sorted(buckets.items()):
        height = max(1, _BATCH_TOKENS // width)
        rows = height - 1 if width == limit and height > 1 else height
        for start in range(0, len(positions), rows):
            yield positions[start : start + rows], width, height


@contextmanager
def above_prefix(model: Any, frozen: int, states: States) -> Iterator[None]:
    """Let `states` stand for the lowest `frozen` layers of a model (PEFT) within this block.

    The layers are put back after it, so the model can be saved whole.

    Raises:
        TrainingError: If the model has too few layers; within the block, if a text is not known.
    """
    import torch

    inner = model.get_base_model()
    backbone = getattr(inner, inner.base_model_prefix)
    require_layers(backbone, frozen)
    parent, name = layer_stack(backbone)
    layers = getattr(parent, name)
    given: list[Any] = []

    def look_up(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        mask = args[1] if len(args) > 1 else kwargs["attention_mask"]
        given[:] = [_gather(ids.cpu().numpy(), mask.sum(1).tolist(), states)]

    def put_in(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        below = args[0] if args else kwargs["hidden_states"]
        known = torch.from_numpy(given[0]).to(below.device, below.dtype)
        if args:
            return (known, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": known}

    hooks = (
        backbone.register_forward_pre_hook(look_up, with_kwargs=True),
        layers[frozen].register_forward_pre_hook(put_in, with_kwargs=True),
    )
    setattr(parent, name, torch.nn.ModuleList(list(layers)[frozen:]))
    try:
        yield
    finally:
        setattr(parent, name, layers)
        for hook in hooks:
            hook.remove()


def _gather(
    ids: npt.NDArray[Any], lengths: Sequence[int], states: States
) -> npt.NDArray[np.float32]:
    """Return the states of a padded batch, float32[b, longest, width]; zero where padded."""
    rows = []
    for row, length in zip(ids, lengths, strict=True):
        found = states.get(key_of(row[:length]))
        if found is None:
            raise TrainingError(
                "a text has no cached states", expected="the states of every row that is trained on"
            )
        rows.append(found)
    out = np.zeros((len(rows), ids.shape[1], rows[0].shape[1]), np.float32)
    for i, found in enumerate(rows):
        out[i, : len(found)] = found
    return out
