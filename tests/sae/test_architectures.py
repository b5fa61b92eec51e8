"""What holds for an SAE of any architecture, and each one's own formula."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.sae import sae as sae_module
from lmmsae_eval.sae.architectures import ARCHITECTURES, trainer_for
from lmmsae_eval.sae.batch_topk import BatchTopK
from lmmsae_eval.sae.formats import load_sae, save_sae
from lmmsae_eval.sae.gated import Gated, GatedTrainer
from lmmsae_eval.sae.jump_relu import JumpReLU, JumpReLUTrainer
from lmmsae_eval.sae.matryoshka import MatryoshkaBatchTopK
from lmmsae_eval.sae.sae import SAE
from lmmsae_eval.sae.step import AuxK, MultiTopK, variance
from lmmsae_eval.sae.topk import TopK
from torch import Tensor
from torch.nn.functional import normalize

N, D, K = 32, 16, 3
EVERY = pytest.mark.parametrize("name", sorted(ARCHITECTURES))


def sae_of(name: str, seed: int = 0) -> SAE:
    """Untied, in double precision, with thresholds and biases that matter."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    own: dict[str, Any] = {
        "topk": {},
        "batch_topk": {"threshold": torch.tensor(2.0, dtype=torch.float64)},
        "matryoshka": {
            "threshold": torch.tensor(2.0, dtype=torch.float64),
            "sizes": (4, 12, N),
        },
        "jump_relu": {"threshold": (0.2 * draw(N) + 1).exp()},
        "gated": {"r_mag": 0.2 * draw(N), "b_mag": 0.3 * draw(N)},
    }[name]
    weights = draw(N, D), draw(N) - 2, normalize(draw(N, D), dim=1), 0.3 * draw(D)
    return ARCHITECTURES[name](*weights, K, **own)


def planted(n_tokens: int = 512, seed: int = 1) -> Tensor:
    """Sums of two of 24 known directions, float32."""
    atoms = normalize(torch.randn(24, D, generator=torch.Generator().manual_seed(9)), dim=1)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(n_tokens, 24, generator=generator).topk(2).indices
    return 3 * atoms[chosen].sum(1)


def fvu(sae: SAE, x: Tensor) -> float:
    return float((sae.reconstruct(x) - x).pow(2).sum() / variance(x))


@EVERY
def test_training_explains_planted_data_with_about_k_latents(name: str) -> None:
    sae = ARCHITECTURES[name].random(N, D, 2, seed=0, b_dec=planted().mean(0))
    before = fvu(sae.untrained(), planted(seed=99))
    trainer = trainer_for(sae, 1e-2, dead_after=10**9)
    for step in range(400):
        trainer.step(planted(seed=step), 1e-2 * min(1.0, (400 - step) / 100))
    held_out = planted(seed=99)
    l0 = float((sae.encode(held_out).values > 0).sum() / len(held_out))
    assert 1 <= l0 <= 4
    assert fvu(sae, held_out) < 0.3 < before
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(N))


@EVERY
def test_latents_decode_to_the_reconstruction_and_unused_slots_are_zero(name: str) -> None:
    sae, x = sae_of(name), 2 * torch.randn(4, 10, D, dtype=torch.float64)
    latents = sae.encode(x)
    assert latents.indices.dtype == torch.int32
    assert latents.indices.shape == latents.values.shape
    assert latents.indices.shape[:2] == (4, 10)
    assert (latents.values >= 0).all()
    assert (latents.values.diff(dim=-1) <= 0).all()
    dense = torch.zeros(40, N, dtype=torch.float64)
    dense.scatter_(1, latents.indices.flatten(0, 1).long(), latents.values.flatten(0, 1))
    torch.testing.assert_close(sae.reconstruct(x).flatten(0, 1), dense @ sae.W_dec + sae.b_dec)
    assert 0 < (dense > 0).sum() < dense.numel()


@EVERY
def test_a_token_is_encoded_alike_alone_and_among_others(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, x = sae_of(name), 2 * torch.randn(30, D, dtype=torch.float64)
    together = sae.reconstruct(x)
    monkeypatch.setattr(sae_module, "_DENSE_VALUES", 7 * N)
    torch.testing.assert_close(sae.reconstruct(x), together)
    torch.testing.assert_close(torch.cat([sae.reconstruct(one[None]) for one in x]), together)
    assert sae.encode(x[:0]).values.shape[0] == 0


@EVERY
def test_an_input_normalisation_can_be_folded_into_the_weights(name: str) -> None:
    sae, x = sae_of(name), 6 * torch.randn(50, D, dtype=torch.float64) + 1
    mean, scale = x.mean(0), 3.5
    folded = sae.folded(mean, scale)
    torch.testing.assert_close(
        folded.reconstruct(x), sae.reconstruct((x - mean) / scale) * scale + mean
    )
    torch.testing.assert_close(folded.W_dec, sae.W_dec)
    with pytest.raises(ValueError, match="positive"):
        sae.folded(mean, 0.0)


@EVERY
def test_a_folded_sae_reconstructs_the_same_after_saving_and_loading(
    name: str, tmp_path: Path
) -> None:
    x = 6 * torch.randn(50, D) + 1
    folded = sae_of(name).to(torch.float32).folded(x.mean(0), 3.5)
    save_sae(folded, tmp_path / "model.layers.0")
    [(_, back)] = load_sae(tmp_path)
    assert (type(back), back.identity) == (type(folded), folded.identity)
    assert torch.equal(back.reconstruct(x), folded.reconstruct(x))


@EVERY
def test_names_settings_and_every_tensor_are_in_the_identity(name: str) -> None:
    sae = sae_of(name)
    assert sae.architecture == name
    assert sae.identity == sae_of(name).identity
    others = [sae_of(other) for other in ARCHITECTURES if other != name]
    changed = [replace(sae, **{key: t + 1e-3}) for key, t in sae.named_tensors.items()]
    others += [*changed, replace(sae, k=K + 1)]
    assert sae.identity not in {other.identity for other in others}


@EVERY
def test_the_control_is_a_topk_of_the_same_size(name: str) -> None:
    control = sae_of(name).untrained(seed=3)
    assert isinstance(control, TopK)
    assert (control.n_latents, control.d_model, control.k) == (N, D, K)


@settings(max_examples=30, deadline=None)
@given(
    k=st.integers(1, N),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
def test_a_batch_keeps_its_largest_positive_latents_whatever_its_parts(
    k: int, sizes: list[int], seed: int
) -> None:
    sae = BatchTopK.random(N, D, 1, 0)
    pre = torch.randn(sum(sizes), N, generator=torch.Generator().manual_seed(seed))
    fired = sae.select(iter(pre.split(sizes)), len(pre), k)
    dense = torch.zeros_like(pre).scatter_(1, fired.indices, fired.values)
    smallest = pre.relu().flatten().sort(descending=True).values[k * len(pre) - 1]
    # Unused slots point at latent 0, so scatter could have overwritten it.
    dense[:, 0] = ((fired.indices == 0) * fired.values).sum(1)
    assert torch.equal(dense, torch.where(pre >= smallest, pre.relu(), 0.0))


def test_the_threshold_is_the_usual_smallest_latent_of_a_batch() -> None:
    sae = BatchTopK.random(N, D, 2, 0)
    smallest = []
    for seed in range(3):
        fired = sae.select([torch.randn(9, N, generator=torch.Generator().manual_seed(seed))], 9, 2)
        smallest.append(float(fired.values[fired.values > 0].min()))
        sae.observe(fired)
    mean = 0.99 * (0.99 * smallest[0] + 0.01 * smallest[1]) + 0.01 * smallest[2]
    assert float(sae.threshold) == pytest.approx(mean)


@pytest.mark.parametrize("sizes", [(), (4, 4, N), (0, N), (4, N - 1), (8, 4, N)])
def test_dictionaries_that_do_not_grow_to_all_latents_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not grow"):
        replace(sae_of("matryoshka"), sizes=sizes)


def test_a_matryoshka_loss_is_the_mean_over_its_dictionaries() -> None:
    sae = sae_of("matryoshka")
    assert isinstance(sae, MatryoshkaBatchTopK)
    x = torch.randn(20, D, dtype=torch.float64)
    done, grads = trainer_for(sae, 1e-3, 10**9).gradients(x)
    expected = 0.0
    for size in sae.sizes:
        kept = done.latents.values * (done.latents.indices < size)
        error = torch.einsum("tk,tkd->td", kept, sae.W_dec[done.latents.indices]) + sae.b_dec - x
        expected += float(error.pow(2).sum() / variance(x)) / len(sae.sizes)
    assert float(grads.loss) == pytest.approx(expected)


def test_a_jump_relus_threshold_has_the_papers_straight_through_gradient() -> None:
    sae = sae_of("jump_relu")
    assert isinstance(sae, JumpReLU)
    x = 2 * torch.randn(200, D, dtype=torch.float64)
    trainer = JumpReLUTrainer(sae, 1e-3, 10**9)
    pre, theta = sae.pre_activations(x), sae.threshold
    width = trainer.width * theta
    near = ((pre - theta).abs() <= width / 2) / width
    values = torch.where(pre > theta, pre, 0.0)
    upstream = 2 * (values @ sae.W_dec + sae.b_dec - x) / variance(x) @ sae.W_dec.T
    l0 = (values > 0).sum() / len(x)
    of_count = 2 * (l0 / sae.k - 1) / sae.k / len(x)
    expected = -((theta * upstream + of_count) * near).sum(0) * theta
    assert expected.abs().sum() > 0
    found = trainer.gradients(x)[1]
    torch.testing.assert_close(found.others[0], expected)
    # The encoder learns only where a latent fires, by its whole pre-activation.
    torch.testing.assert_close(found.W_enc, (upstream * (values > 0)).T @ (x - sae.b_dec))


@pytest.mark.parametrize("name", ["jump_relu", "gated"])
def test_training_starts_where_the_first_batch_has_the_wanted_l0(name: str) -> None:
    sae, x = ARCHITECTURES[name].random(N, D, K, 0), torch.randn(640, D)
    done, _ = trainer_for(sae, 1e-3, 10**9).gradients(x)
    assert float((done.latents.values > 0).sum() / 640) == pytest.approx(K, rel=0.05)


def test_a_gated_sae_is_the_papers_formula_and_its_gates_do_not_move_the_decoder() -> None:
    sae = sae_of("gated")
    assert isinstance(sae, Gated)
    x = 2 * torch.randn(40, D, dtype=torch.float64)
    raw = (x - sae.b_dec) @ sae.W_enc.T
    values = (raw + sae.b_enc > 0) * torch.relu(sae.r_mag.exp() * raw + sae.b_mag)
    torch.testing.assert_close(sae.reconstruct(x), values @ sae.W_dec + sae.b_dec)
    found = GatedTrainer(sae, 1e-3, 10**9).gradients(x)[1]
    upstream = 2 * (values @ sae.W_dec + sae.b_dec - x) / variance(x)
    torch.testing.assert_close(found.W_dec, values.T @ upstream)


def written_out(sae: SAE, x: Tensor, penalty: float) -> Tensor:
    """The loss of `jump_relu` and `gated`, in one dense piece, as their docstrings have it."""
    raw = (x - sae.b_dec) @ sae.W_enc.T
    if isinstance(sae, JumpReLU):
        values = (raw + sae.b_enc) * (raw + sae.b_enc > sae.threshold)
        l0 = (values > 0).sum() / len(x)
        error = values @ sae.W_dec + sae.b_dec - x
        return error.pow(2).sum() / variance(x) + penalty * (l0 / sae.k - 1) ** 2
    assert isinstance(sae, Gated)
    gate = raw + sae.b_enc
    values = (gate > 0) * torch.relu(sae.r_mag.exp() * raw + sae.b_mag)
    l0 = (values > 0).sum() / len(x)
    error = values @ sae.W_dec + sae.b_dec - x
    alone = gate.relu() @ sae.W_dec.detach() + sae.b_dec.detach() - x
    l1 = gate.relu().sum() / (variance(x) * len(x)).sqrt()
    fvus = (error.pow(2).sum() + alone.pow(2).sum()) / variance(x)
    return fvus + penalty * (l0 / sae.k) ** 2 * l1


@pytest.mark.parametrize("at_a_time", [7, 100])
@pytest.mark.parametrize("name", ["jump_relu", "gated"])
def test_gradients_in_parts_are_those_of_the_loss_written_out(
    name: str, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the threshold's, which no autograd knows."""
    monkeypatch.setattr(sae_module, "_DENSE_VALUES", at_a_time * N)
    sae, x = sae_of(name), 2 * torch.randn(40, D, dtype=torch.float64)
    ours = trainer_for(sae, 1e-3, 10**9, penalty=0.7).gradients(x)[1]
    leaves: Any = {key: t.clone().requires_grad_() for key, t in sae.named_tensors.items()}
    loss = written_out(replace(sae, **leaves), x, 0.7)
    told = [leaf for key, leaf in leaves.items() if key != "threshold"]
    torch.testing.assert_close(ours.loss, loss.detach())
    for mine, twin in zip(ours.of_parameters(), torch.autograd.grad(loss, told), strict=False):
        assert (mine - twin).norm() <= 1e-10 * twin.norm()
        assert twin.any()


@pytest.mark.parametrize("name", ["jump_relu", "gated"])
def test_an_auxiliary_loss_that_an_architecture_lacks_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="TopK family"):
        trainer_for(sae_of(name), 1e-3, 100, auxk=AuxK())


def test_multi_topk_is_for_topk_alone() -> None:
    with pytest.raises(ValueError, match="MultiTopK"):
        trainer_for(sae_of("batch_topk"), 1e-3, 100, multi=MultiTopK())
