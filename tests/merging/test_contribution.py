"""A contribution is small, exact, for one base alone, and never half of one."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fm_platform.errors import CorruptArtifactError, FMError, MergeRefusedError
from fm_platform.fisher import diagonal_fisher
from fm_platform.merging.contribution import (
    IMPORTANCES,
    Contribution,
    Entries,
    applied,
    contribution,
    read_contribution,
    tensors_hash,
    write_contribution,
)

State = dict[str, torch.Tensor]


def base_of(seed: int = 0, dtype: torch.dtype = torch.float32) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        "body.weight": torch.randn(40, 50, generator=generator).to(dtype),
        "body.bias": torch.randn(40, generator=generator).to(dtype),
        "ids": torch.arange(7),
    }


def tuned_from(base: State, share: float = 1.0, seed: int = 1) -> State:
    """The base with a share of its entries changed."""
    generator = torch.Generator().manual_seed(seed)
    found = dict(base)
    for name in ("body.weight", "body.bias"):
        change = torch.randn(base[name].shape, generator=generator) * 0.1
        change[torch.rand(base[name].shape, generator=generator) >= share] = 0
        found[name] = (base[name].float() + change).to(base[name].dtype)
    return found


def same(one: State, two: State) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sparse_update_is_kept_whole_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    base = base_of(dtype=dtype)
    tuned = tuned_from(base, share=0.01)
    made = contribution(base, tuned, 0.05, facts={"of": "adapter/mail"})
    write_contribution(made, tmp_path / "one.safetensors")
    found = read_contribution(tmp_path / "one.safetensors")

    assert same(applied(base, [found]).state, tuned)
    assert made.facts["importance"] == "whole"
    assert made.count == made.facts["changed"] == applied(base, [found]).entries > 0
    assert found.facts == made.facts
    assert found.content_hash == made.content_hash


def test_the_most_important_entries_are_taken_and_nothing_else() -> None:
    base = {"w": torch.zeros(2, 3)}
    tuned = {"w": torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, -4.0]])}
    fisher = {"w": torch.tensor([[9.0, 5.0, 0.1], [99.0, 40.0, 0.0]])}
    kept = {}
    for importance in IMPORTANCES:
        made = contribution(base, tuned, 2 / 6, importance, fisher)
        kept[importance] = applied(base, [made]).state["w"].tolist()

    assert kept["fisher"] == [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]]
    assert kept["change"] == [[0.0, 0.0, 3.0], [0.0, 0.0, -4.0]]
    assert kept["fisher_change"] == [[0.0, 2.0, 0.0], [0.0, 0.5, 0.0]]  # 20 and 10; 9; 0.9; 0


def test_a_hundredth_takes_at_most_two_hundredths_of_the_bytes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = {f"layer.{i}": torch.randn(300, 400, generator=generator) for i in range(8)}
    tuned = {n: t + torch.randn(t.shape, generator=generator) for n, t in base.items()}
    size = write_contribution(
        contribution(base, tuned, 0.01, "change"), tmp_path / "one.safetensors"
    )
    save_file(tuned, tmp_path / "dense.safetensors")
    made = read_contribution(tmp_path / "one.safetensors")

    assert made.count == 9600
    assert size < 0.015 * (tmp_path / "dense.safetensors").stat().st_size
    assert size == (tmp_path / "one.safetensors").stat().st_size


def test_equal_contributions_are_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made = contribution(base_of(), tuned_from(base_of()), 0.1, "change", facts={"a": 1, "b": 2})
        write_contribution(made, tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_several_are_added_in_any_order_and_conflicts_are_counted() -> None:
    base = base_of()
    tuned = [tuned_from(base, 0.3, seed) for seed in (1, 2, 3)]
    made = [contribution(base, one, 1.0) for one in tuned]
    found = [applied(base, list(order)) for order in permutations(made)]

    assert all(same(one.state, found[0].state) for one in found)
    touched = torch.stack([one["body.weight"] != base["body.weight"] for one in tuned]).sum(dim=0)
    biases = torch.stack([one["body.bias"] != base["body.bias"] for one in tuned]).sum(dim=0)
    assert found[0].entries == int((touched > 0).sum() + (biases > 0).sum())
    assert found[0].conflicts == int((touched > 1).sum() + (biases > 1).sum()) > 0
    summed = base["body.weight"] + sum(one["body.weight"] - base["body.weight"] for one in tuned)
    torch.testing.assert_close(found[0].state["body.weight"], summed)
    alone = (touched == 1) & (tuned[1]["body.weight"] != base["body.weight"])
    assert torch.equal(found[0].state["body.weight"][alone], tuned[1]["body.weight"][alone])


def test_nothing_applied_is_the_base() -> None:
    assert same(applied(base_of(), []).state, base_of())


def test_another_base_is_refused() -> None:
    made = contribution(base_of(), tuned_from(base_of()), 0.1, "change")
    other = base_of()
    other["body.bias"] = torch.nextafter(other["body.bias"], torch.tensor(9.0))
    for base in (base_of(1), other, {**base_of(), "more": torch.zeros(1)}):
        with pytest.raises(MergeRefusedError, match="another base"):
            applied(base, [made])


def test_the_same_one_twice_is_refused() -> None:
    made = contribution(base_of(), tuned_from(base_of()), 0.1, "change")
    with pytest.raises(MergeRefusedError, match="twice"):
        applied(base_of(), [made, made])


@pytest.mark.parametrize(
    ("places", "values", "shape", "told"),
    [
        ([3, 2], [1.0, 1.0], (4, 2), "do not ascend"),
        ([2, 2], [1.0, 1.0], (4, 2), "do not ascend"),
        ([-1, 2], [1.0, 1.0], (4, 2), "do not ascend"),
        ([2, 8], [1.0, 1.0], (4, 2), "place 8 of 8"),
        ([2, 3], [1.0, float("nan")], (4, 2), "not finite"),
        ([2, 3], [1.0], (4, 2), "places and"),
        ([2, 3], [1.0, 1.0], (8,), "not ((4, 2)"),
    ],
)
def test_entries_that_do_not_fit_are_refused(
    tmp_path: Path, places: list[int], values: list[float], shape: tuple[int, ...], told: str
) -> None:
    base = {"w": torch.zeros(4, 2)}
    entries = Entries(torch.tensor(places), torch.tensor(values), shape)
    made = Contribution(tensors_hash(base), {"w": entries})
    with pytest.raises(MergeRefusedError) as refused:
        applied(base, [made])
    assert told in str(refused.value)
    if shape == (4, 2):
        with pytest.raises(MergeRefusedError, match="not sound"):
            write_contribution(made, tmp_path / "one.safetensors")
        assert not list(tmp_path.iterdir())


def test_every_flipped_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    write_contribution(contribution(base_of(), tuned_from(base_of(), 0.01), 0.1), path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises((CorruptArtifactError, MergeRefusedError)):
            read_contribution(path)
    for end in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(CorruptArtifactError):
            read_contribution(path)


def test_a_file_of_something_else_is_no_contribution(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CorruptArtifactError, match="no contribution"):
        read_contribution(tmp_path / "other.safetensors")
    with pytest.raises(FMError, match="no such file"):
        read_contribution(tmp_path / "absent.safetensors")


def test_places_out_of_range_in_a_file_with_the_right_hash_are_refused(tmp_path: Path) -> None:
    """Who makes the file can also make its hash: the entries are looked at by themselves."""
    path = tmp_path / "one.safetensors"
    entries = Entries(torch.tensor([2, 5]), torch.tensor([1.0, 2.0]), (4, 2))
    write_contribution(Contribution("0" * 64, {"w": entries}), path)
    assert load_file(path)["places/w"].tolist() == [3, 3]
    for places, told in (([3, 0], "ascend"), ([3, 9], "place 11 of 8")):
        forged = forge(path, torch.tensor(places, dtype=torch.uint8))
        with pytest.raises(MergeRefusedError) as refused:
            read_contribution(forged)
        assert told in str(refused.value)


def forge(path: Path, places: torch.Tensor) -> Path:
    import json

    from safetensors import safe_open

    from fm_platform.merging import contribution as module

    with safe_open(str(path), "pt") as file:
        head = json.loads(file.metadata()["contribution"])
    tensors = {**load_file(path), "places/w": places}
    head["content"] = module._content({k: v for k, v in head.items() if k != "content"}, tensors)
    forged = path.with_name("forged.safetensors")
    save_file(tensors, forged, {"contribution": json.dumps(head)})
    return forged


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(MergeRefusedError, match="share"):
        contribution(base_of(), tuned_from(base_of()), share)


def test_what_is_no_update_of_the_base_is_refused() -> None:
    base, tuned = base_of(), tuned_from(base_of())
    bad = tuned["body.bias"].clone()
    bad[3] = float("inf")
    for other, told in (
        ({**tuned, "more": torch.zeros(1)}, "one side only"),
        ({**tuned, "body.bias": torch.zeros(41)}, "body.bias: (41,)"),
        ({**tuned, "body.bias": bad}, "not finite"),
        ({**tuned, "ids": torch.arange(7) + 1}, "whole numbers"),
    ):
        with pytest.raises(MergeRefusedError) as refused:
            contribution(base, other, 0.1, "change")
        assert told in str(refused.value)
    with pytest.raises(MergeRefusedError, match="nothing was changed"):
        contribution(base, base_of(), 0.1)
    with pytest.raises(MergeRefusedError, match="needs Fisher information"):
        contribution(base, tuned, 0.1)


def test_a_hundredth_keeps_the_gain_where_a_hundredth_matters() -> None:
    """What was learned lies in 20 of 2,000 entries; others moved and matter little, or not."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 1000, generator=generator)
    inputs[:, 500:] *= 1e-3  # hardly ever seen
    base = {"weight": torch.zeros(2, 1000)}
    learned = torch.zeros(2, 1000)
    learned[:, :10] = torch.randn(2, 10, generator=generator)
    labels = (inputs @ learned.T).argmax(dim=1)
    in_vain = torch.where(torch.arange(1000) >= 500, 5.0, 1e-3) * torch.randn(
        2, 1000, generator=generator
    )
    tuned = {"weight": learned + in_vain}

    def loss(state: State) -> float:
        logits = inputs @ state["weight"].T
        return float(torch.nn.functional.cross_entropy(logits, labels))

    def answers(x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=x @ begun.T)

    begun = base["weight"].clone().requires_grad_(True)
    rows = ({"x": inputs[i : i + 1]} for i in range(256))
    fisher = diagonal_fisher(answers, rows, {"weight": begun})
    gain = loss(base) - loss(tuned)
    kept = {
        kind: (
            loss(base) - loss(applied(base, [contribution(base, tuned, 0.01, kind, fisher)]).state)
        )
        / gain
        for kind in IMPORTANCES
    }

    assert kept["fisher_change"] > 0.95
    assert kept["change"] < 0.05
    assert kept["fisher"] < 0.5
