"""One contract for every way of training: train, save, load, go on, merge or be refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.merge import merge_experts
from fm_platform.numerics import reproducible
from fm_platform.spec.models import Merge
from fm_platform.spec.training import MethodName
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import encode, padded
from fm_platform.training.methods import MERGEABLE, new_adapter, save_any
from fm_platform.training.predict import load_adapter, load_classifier
from fm_platform.training.variants import AllocatingLoop, run_loop, train_expert_as
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROWS, DEV = tiny_rows(24), tiny_rows(8, 1, split="dev")


@pytest.mark.filterwarnings("ignore:The following rank_pattern", "ignore:Adapter 'default'")
@pytest.mark.parametrize("method", MethodName.__args__)
def test_train_save_load_go_on_merge_or_refuse(
    base: BaseModel, tmp_path: Path, method: str
) -> None:
    config = tiny_config(method=method, batch_tokens=96)
    rows, dev = (encode(base.tokenizer(), part, 24, CLASSES) for part in (ROWS, DEV))
    ids, mask = padded(rows.tokens, 0)

    def logits(model: torch.nn.Module) -> torch.Tensor:
        with reproducible(1), torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).logits

    # trained
    kind = AllocatingLoop if method == "adalora" else None
    with reproducible(1):
        model = new_adapter(base, config, CLASSES, steps=4)
        fresh = logits(model)
        run_loop(model, rows, dev, config, tmp_path / "first", 1e-2, 0, None, *filter(None, [kind]))
        trained = logits(model)
        save_any(model, tmp_path / "saved", base, CLASSES)
    assert not torch.equal(fresh, trained)

    # saved and loaded: the same answers to the last bit
    assert torch.equal(logits(load_adapter(base, tmp_path / "saved").model), trained)

    # gone on from what was saved
    more = train_expert_as(ROWS, DEV, base, tmp_path / "saved", config, CLASSES, tmp_path / "more")
    after = logits(load_adapter(base, more.directory).model)
    assert not torch.equal(after, trained)

    # merged exactly, or refused by name
    experts, out = {"one": more.directory}, tmp_path / "merged"
    if method in MERGEABLE:
        merge_experts(base, experts, Merge(), CLASSES, out)
        assert (logits(load_classifier(out).model) - after).abs().max() < 1e-5
    else:
        with pytest.raises(MergeRefusedError, match="'one' cannot be merged exactly"):
            merge_experts(base, experts, Merge(), CLASSES, out)
