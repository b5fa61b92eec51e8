"""A step in pieces is a step; latents are counted per token kind; a state is all there is."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae import sae as sae_module
from lmmsae_eval.sae.architectures import ARCHITECTURES
from lmmsae_eval.sae.distributed import ALONE
from lmmsae_eval.sae.learner import Learner, centre, eight_bit_adam
from lmmsae_eval.sae.lmm import TokenKind
from lmmsae_eval.sae.measure import fired_by_kind
from lmmsae_eval.sae.topk import Latents
from torch import Tensor

toy = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "toy_training.py")))


def batch(step: int) -> Tensor:
    return torch.cat(toy.global_batch(step))


def kinds(x: Tensor, kind: TokenKind = TokenKind.TEXT) -> Tensor:
    return torch.full((len(x),), kind, dtype=torch.int8)


@pytest.fixture(scope="module")
def learned_whole() -> dict[str, list[Tensor]]:
    """What eight whole batches teach, by architecture; thresholds are among it."""
    return {
        name: toy.double_steps(toy.double_learner(ALONE, architecture=name), batch, steps=8)
        for name in ARCHITECTURES
    }


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(sorted(ARCHITECTURES)), pieces=st.integers(2, 12))
def test_a_batch_in_pieces_teaches_the_same_as_whole(
    learned_whole: dict[str, list[Tensor]], name: str, pieces: int
) -> None:
    learner = toy.double_learner(ALONE, architecture=name, accumulate=pieces)
    cut = toy.double_steps(learner, batch, steps=8)
    for a, b in zip(learned_whole[name], cut, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["jump_relu", "gated"])
def test_a_dense_part_at_a_time_teaches_the_same(
    learned_whole: dict[str, list[Tensor]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae_module, "_DENSE_VALUES", 9 * 32)
    parts = toy.double_steps(toy.double_learner(ALONE, architecture=name), batch, steps=8)
    for a, b in zip(learned_whole[name], parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_in_pieces_a_batch_topk_still_keeps_the_largest_of_the_whole_batch() -> None:
    whole: Learner = toy.double_learner(ALONE, architecture="batch_topk")
    cut: Learner = toy.double_learner(ALONE, architecture="batch_topk", accumulate=7)
    [one] = whole.step(batch(0), kinds(batch(0)), 1e-2)
    several = cut.step(batch(0), kinds(batch(0)), 1e-2)
    counts = torch.cat([(part.latents.values > 0).sum(1) for part in several])
    assert torch.equal(counts, (one.latents.values > 0).sum(1))
    assert int(counts.sum()) == 3 * len(batch(0))
    assert counts.max() > counts.min()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_batch_in_which_nothing_fires_changes_no_threshold(accumulate: int) -> None:
    learner: Learner = toy.double_learner(ALONE, architecture="batch_topk", accumulate=accumulate)
    learner.trainer.sae.b_enc.fill_(-1e3)
    done = learner.step(batch(0), kinds(batch(0)), 1e-2)
    assert not any(part.latents.values.any() for part in done)
    assert float(learner.trainer.sae.threshold) == 0


def test_pieces_are_measured_as_one_batch() -> None:
    x = batch(0)
    found = []
    for pieces in (1, 4):
        learner: Learner = toy.double_learner(ALONE, accumulate=pieces)
        done = learner.step(x, kinds(x), 1e-3)
        found.append(learner.measure(x, kinds(x), done))
    assert found[0].keys() == found[1].keys()
    assert found[0] == pytest.approx(found[1])


def test_gradients_are_clipped_to_a_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    learner: Learner = toy.double_learner(ALONE, clip=1e-3)
    seen: list[Tensor] = []
    monkeypatch.setattr(learner.trainer, "update", lambda grads, lr: seen.extend(grads))
    learner.step(batch(0), kinds(batch(0)), 1e-3)
    norm = torch.cat([grad.reshape(-1) for grad in seen]).norm().item()
    assert norm == pytest.approx(1e-3)


def test_small_gradients_are_not_clipped() -> None:
    free = toy.double_steps(toy.double_learner(ALONE), batch, steps=5)
    clipped = toy.double_steps(toy.double_learner(ALONE, clip=1e6), batch, steps=5)
    for a, b in zip(free, clipped, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_fvu_l0_and_dead_share_are_told_per_kind() -> None:
    """Rows 0-7 hold image tokens: a latent that fires there only is dead for text."""
    x = batch(0)
    of = kinds(x)
    of[:8] = TokenKind.IMAGE
    learner: Learner = toy.double_learner(ALONE, dead_after=1)
    done = learner.step(x, of, 0.0)
    found = learner.measure(x, of, done)
    [first] = done
    spread = (x[:8] - x[:8].mean(0)).pow(2).sum()
    assert found["fvu_image"] == pytest.approx((first.error[:8].pow(2).sum() / spread).item())
    used = first.latents.values > 0
    assert found["l0_image"] == pytest.approx(used[:8].sum(1).double().mean().item())
    for name, rows in (("image", slice(0, 8)), ("text", slice(8, None))):
        alive = first.latents.indices[rows][used[rows]].unique()
        assert found[f"dead_{name}"] == pytest.approx(1 - len(alive) / 32)
    assert found["dead"] <= min(found["dead_image"], found["dead_text"])


def test_a_kind_that_was_not_seen_is_not_told() -> None:
    learner: Learner = toy.double_learner(ALONE)
    found = learner.measure(batch(0), kinds(batch(0)), learner.step(batch(0), kinds(batch(0)), 0.1))
    assert {name for name in found if "_" in name} == {"fvu_text", "l0_text", "dead_text"}


def test_a_slot_with_value_zero_fires_on_no_kind() -> None:
    latents = Latents(torch.tensor([[0, 1]]), torch.tensor([[0.0, 2.0]]))
    fired = fired_by_kind(latents, torch.tensor([TokenKind.TILE]), 3)
    assert fired.nonzero().tolist() == [[TokenKind.TILE, 1]]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_learner_made_from_a_state_goes_on_to_the_same_bits(name: str) -> None:
    original: Learner = toy.double_learner(ALONE, architecture=name)
    toy.double_steps(original, batch, steps=6)
    state = {name: tensor.clone() for name, tensor in original.state().items()}
    restored: Learner = toy.double_learner(ALONE, architecture=name)
    restored.restore(state)
    for a, b in zip(
        toy.double_steps(original, batch), toy.double_steps(restored, batch), strict=True
    ):
        assert torch.equal(a, b)


def test_the_geometric_median_is_not_drawn_by_an_outlier() -> None:
    x = torch.randn(501, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spoilt = torch.cat([x, torch.full((20, 3), 1e4, dtype=torch.float64)])
    found = centre(spoilt, "median", ALONE)
    assert found.norm() < 0.2 < centre(spoilt, "mean", ALONE).norm()
    # Where the sum of distances is smallest, unit vectors to the points cancel out.
    pull = torch.nn.functional.normalize(spoilt - found, dim=1).mean(0)
    assert pull.norm() < 1e-4


def test_eight_bit_adam_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UsageError, match="pip install bitsandbytes") as error:
        eight_bit_adam([torch.zeros(1)], 1e-3)
    assert "\n" not in str(error.value)
