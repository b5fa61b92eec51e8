"""The train step without autograd against its autograd twin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.sae import sae as sae_module
from lmmsae_eval.sae.architectures import trainer_for
from lmmsae_eval.sae.batch_topk import BatchTopK
from lmmsae_eval.sae.family import TopKFamily
from lmmsae_eval.sae.matryoshka import MatryoshkaBatchTopK
from lmmsae_eval.sae.step import (
    AuxK,
    Gradients,
    MultiTopK,
    TopKTrainer,
    forward,
    gradients,
    variance,
)
from lmmsae_eval.sae.topk import TopK
from lmmsae_eval.sae.twin import TwinTrainer, autograd_gradients
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
N, D, TOKENS = 24, 10, 64


def any_sae(k: int, dtype: torch.dtype, seed: int = 0) -> TopK:
    """Encoder and decoder untied, biases not zero: no gradient is small by symmetry."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    rows = torch.nn.functional.normalize(draw(N, D), dim=1)
    return TopK(draw(N, D), 0.1 * draw(N), rows, 0.3 * draw(D), k)


def tokens(dtype: torch.dtype, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(TOKENS, D, generator=generator, dtype=torch.float64).to(dtype)


def assert_equal_to_the_twin(
    sae: TopKFamily,
    x: Tensor,
    dead: Tensor | None,
    auxk: AuxK | None,
    multi: MultiTopK | None = None,
) -> Gradients:
    done = forward(sae, x, dead, auxk, multi)
    ours, twin = gradients(sae, x, done, auxk), autograd_gradients(sae, x, done, auxk)
    tolerance = TOLERANCE[x.dtype]
    assert abs(ours.loss - twin.loss) <= tolerance * abs(twin.loss)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        mine, oracle = getattr(ours, name), getattr(twin, name)
        assert (mine - oracle).norm() <= tolerance * oracle.norm(), name
    return ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, N])
@pytest.mark.parametrize("auxk", [None, AuxK(1 / 32, 3), AuxK(1.0, N)])
def test_step_gradients_equal_the_autograd_twin(
    dtype: torch.dtype, k: int, auxk: AuxK | None
) -> None:
    dead = torch.zeros(N, dtype=torch.bool)
    dead[::3] = True
    assert_equal_to_the_twin(any_sae(k, dtype), tokens(dtype), dead, auxk)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_equal_the_twin_when_every_latent_is_dead(dtype: torch.dtype) -> None:
    assert_equal_to_the_twin(
        any_sae(4, dtype), tokens(dtype), torch.ones(N, dtype=torch.bool), AuxK(1 / 32, 5)
    )


@pytest.mark.parametrize("auxk", [None, AuxK(1 / 32, 5)])
def test_a_batch_on_which_no_latent_fires_gives_the_encoder_no_main_gradient(
    auxk: AuxK | None,
) -> None:
    sae = any_sae(4, torch.float64)
    sae.b_enc.fill_(-1e3)
    found = assert_equal_to_the_twin(
        sae, tokens(torch.float64), torch.ones(N, dtype=torch.bool), auxk
    )
    assert bool(found.W_enc.any()) == (auxk is not None)
    assert found.b_dec.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, N])
@pytest.mark.parametrize("kind", [BatchTopK, MatryoshkaBatchTopK])
@pytest.mark.parametrize("auxk", [None, AuxK(1 / 32, 3)])
def test_the_whole_family_equals_the_autograd_twin(
    kind: type[BatchTopK], k: int, dtype: torch.dtype, auxk: AuxK | None
) -> None:
    plain = any_sae(k, dtype)
    own = kind._at_start(plain.W_enc)
    sae = kind(*plain.tensors, k, **own)  # type: ignore[arg-type]
    for dead in (torch.arange(N) % 3 == 0, torch.ones(N, dtype=torch.bool)):
        assert_equal_to_the_twin(sae, tokens(dtype), dead, auxk)
    sae.b_enc.fill_(-1e3)
    assert_equal_to_the_twin(sae, tokens(dtype), torch.ones(N, dtype=torch.bool), auxk)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 4, N])
@pytest.mark.parametrize("auxk", [None, AuxK(1 / 32, 3)])
def test_multi_topk_equals_the_twin_and_adds_the_fvu_of_more_latents(
    dtype: torch.dtype, k: int, auxk: AuxK | None
) -> None:
    sae, x, dead = any_sae(k, dtype), tokens(dtype), torch.arange(N) % 3 == 0
    multi = MultiTopK(times=3, weight=0.25)
    found = assert_equal_to_the_twin(sae, x, dead, auxk, multi)
    if auxk is None:
        more = TopK(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, min(N, 3 * k))
        fvus = [(s.reconstruct(x) - x).pow(2).sum() / variance(x) for s in (sae, more)]
        torch.testing.assert_close(found.loss, fvus[0] + 0.25 * fvus[1])


def test_dense_activations_in_parts_give_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x, dead = any_sae(4, torch.float64), tokens(torch.float64), torch.arange(N) % 3 == 0
    whole = gradients(sae, x, forward(sae, x, dead, AuxK()), AuxK())
    monkeypatch.setattr(sae_module, "_DENSE_VALUES", 10 * N)
    parts = gradients(sae, x, forward(sae, x, dead, AuxK()), AuxK())
    for mine, expected in zip(parts.of_parameters(), whole.of_parameters(), strict=True):
        torch.testing.assert_close(mine, expected)


@settings(max_examples=25, deadline=None)
@given(
    k=st.integers(1, N),
    k_aux=st.integers(1, N),
    n_dead=st.integers(0, N),
    seed=st.integers(0, 2**16),
)
def test_gradients_equal_the_twin_for_any_sizes(k: int, k_aux: int, n_dead: int, seed: int) -> None:
    dead = torch.arange(N) < n_dead
    sae = any_sae(k, torch.float64, seed)
    assert_equal_to_the_twin(sae, tokens(torch.float64, seed + 1), dead, AuxK(0.5, k_aux))


FAMILY = pytest.mark.parametrize("kind", [TopK, BatchTopK, MatryoshkaBatchTopK])


def half_dead_sae(kind: type[TopKFamily] = TopK) -> tuple[TopKFamily, Tensor]:
    """Latents 3, 4, 5 never fire though their decoder rows are just what is lacking."""
    rows = torch.eye(6)
    bias = torch.tensor([0.0, 0.0, 0.0, -5.0, -5.0, -5.0])
    own = kind._at_start(rows)
    return kind(rows.clone(), bias, rows.clone(), torch.zeros(6), 1, **own), rows.repeat(15, 1)


@FAMILY
def test_auxk_pulls_the_encoder_of_a_dead_latent_towards_the_error(kind: type[TopKFamily]) -> None:
    sae, x = half_dead_sae(kind)
    dead, auxk = torch.arange(6) >= 3, AuxK(1.0, 3)
    without = gradients(sae, x, forward(sae, x))
    found = gradients(sae, x, forward(sae, x, dead, auxk), auxk)
    assert not without.W_enc[3:].any()
    # Going down the gradient raises each dead latent where the error lies along its decoder row.
    assert (found.b_enc[3:] < 0).all()
    assert (found.W_enc.diagonal()[3:] < 0).all()


@FAMILY
def test_dead_latents_come_back_with_auxk_and_only_with_it(kind: type[TopKFamily]) -> None:
    def fired_after_training(auxk: AuxK | None) -> set[int]:
        sae, x = half_dead_sae(kind)
        trainer = trainer_for(sae, 0.05, 90, auxk)
        for _ in range(300):
            latents = trainer.step(x, 0.05).latents
        return set(latents.indices[latents.values > 0].tolist()) & {3, 4, 5}

    # One of the six directions is b_dec's to explain.
    assert len(fired_after_training(AuxK(1 / 32, 3))) >= 2
    assert not fired_after_training(None)


def test_decoder_rows_keep_unit_norm() -> None:
    trainer = TopKTrainer(any_sae(4, torch.float32), 1e-2, None, dead_after=1000)
    for seed in range(5):
        trainer.step(tokens(torch.float32, seed), 1e-2)
    torch.testing.assert_close(trainer.sae.W_dec.norm(dim=1), torch.ones(N))


def sparse_sums(n_tokens: int, seed: int) -> Tensor:
    """Of 40 fixed atoms, so that there is something to learn."""
    atoms = torch.randn(40, D, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_tokens, 40, generator=generator, dtype=torch.float64).pow(12) @ atoms


def test_500_steps_without_autograd_end_where_those_of_its_twin_end() -> None:
    """Held-out FVU and dead latents, without AuxK and with it."""
    held_out = sparse_sums(400, 1000)
    for auxk in (None, AuxK(1 / 32, 4)):
        ends = []
        for kind in (TopKTrainer, TwinTrainer):
            start = TopK.random(64, D, 4, 0, sparse_sums(100, 0).mean(0))
            trainer = kind(start, 5e-3, auxk, dead_after=2000)
            for step in range(500):
                trainer.step(sparse_sums(64, step), 5e-3)
            missed = trainer.sae.reconstruct(held_out) - held_out
            ends.append((missed.pow(2).sum() / variance(held_out), trainer.dead))
        (ours, dead), (twins, dead_of_twin) = ends
        assert ours < 0.3
        torch.testing.assert_close(ours, twins, rtol=1e-9, atol=0.0)
        assert torch.equal(dead, dead_of_twin)


def test_a_batch_of_equal_tokens_does_not_blow_up() -> None:
    trainer = TopKTrainer(any_sae(4, torch.float32), 1e-2, AuxK(), dead_after=1)
    for n_tokens in (1, 5):
        trainer.step(tokens(torch.float32)[:1].expand(n_tokens, -1), 1e-2)
    assert all(parameter.isfinite().all() for parameter in trainer.sae.tensors)


def test_a_latent_is_dead_after_so_many_tokens_without_firing_and_alive_when_it_fires() -> None:
    sae, x = half_dead_sae()
    trainer = trainer_for(sae, 0.0, 150)
    trainer.step(x, 0.0)
    assert not trainer.dead.any()
    trainer.step(x, 0.0)
    assert trainer.dead.tolist() == [False, False, False, True, True, True]
    sae.b_enc.zero_()
    trainer.step(x, 0.0)
    assert not trainer.dead.any()


def test_gradients_written_where_earlier_ones_were_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    sae = TopK.random(40, 200, 8, seed=0)
    first, second = torch.randn(2, 50, 200, generator=generator)
    done = forward(sae, second)
    expected = gradients(sae, second, done)
    room = gradients(sae, first, forward(sae, first))
    found = gradients(sae, second, done, room=room)
    assert found.W_enc.data_ptr() == room.W_enc.data_ptr()
    for mine, fresh in zip(found.of_parameters(), expected.of_parameters(), strict=True):
        assert torch.equal(mine, fresh)
