"""Only the tokens that are meant go through the SAE: on BOS thresholds may let everything fire."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.attribution import attribute
from lmmsae_eval.sae.displacement import as_far, swapped_decoder
from lmmsae_eval.sae.encoding import encode_at, reconstruct_at
from lmmsae_eval.sae.integrated import integrate
from lmmsae_eval.sae.jump_relu import JumpReLU
from lmmsae_eval.sae.lmm import LMM, Batch, Hook, Hookpoint, Prompt, TokenKind
from lmmsae_eval.sae.sae import Latents
from lmmsae_eval.sae.steering import clamp, matched_direction, reconstruct, steer, together
from lmmsae_eval.sae.tokens import Span, TokenSet, token_mask
from torch import Tensor

N_LATENTS, ROWS = 64, 3
LATENTS = torch.tensor([3, 14])
EDITS: dict[str, Callable[[JumpReLU], Hook]] = {
    "reconstruct": lambda sae: reconstruct(sae, error=False),
    "reconstruct + error": lambda sae: reconstruct(sae, error=True),
    "steer": lambda sae: steer(sae, LATENTS, 0.0),
    "replace": lambda sae: clamp(sae, LATENTS, 2.0, error_preserving=False),
    "together": lambda sae: together(
        steer(sae, LATENTS, 0.0, tokens="image"), clamp(sae, LATENTS + 1, 3.0, tokens="last")
    ),
    "matched direction": lambda sae: matched_direction(sae, steer(sae, LATENTS, 0.0), LATENTS + 1),
    "as far": lambda sae: as_far(steer(sae, LATENTS, 0.0), torch.ones(8)),
    "swapped decoder": lambda sae: swapped_decoder(steer(sae, LATENTS, 0.0), LATENTS + 1),
}


@pytest.fixture
def sae() -> JumpReLU:
    made = JumpReLU.random(N_LATENTS, 8, 4, seed=0).to(torch.float64)
    made.threshold.fill_(1.5)
    return made


@pytest.fixture
def batch(linear_lmm: LMM) -> Batch:
    """BOS and padding as far off as they are in real models."""
    batch = linear_lmm.prepare([Prompt(str(seed)) for seed in range(ROWS)])
    batch.inputs["x"][:, :2] *= 1e4
    return batch


@pytest.fixture
def hookpoint(linear_lmm: LMM) -> Hookpoint:
    return linear_lmm.hookpoint(2)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every stretch of tokens that an SAE was given meanwhile."""
    seen: list[Tensor] = []
    parts = JumpReLU.encode_parts

    def watched(sae: JumpReLU, x: Tensor) -> Iterator[Latents]:
        seen.append(x.reshape(-1, x.shape[-1]))
        return parts(sae, x)

    monkeypatch.setattr(JumpReLU, "encode_parts", watched)
    return seen


@pytest.mark.parametrize("name", EDITS)
def test_no_edit_encodes_bos_or_padding(
    name: str, sae: JumpReLU, batch: Batch, encoded: list[Tensor]
) -> None:
    x = batch.inputs["x"]
    assert sae.encode(x).values.shape[-1] > 2 * sae.encode(x[:, 2:]).values.shape[-1]
    encoded.clear()
    new = EDITS[name](sae)(x, batch)
    assert torch.equal(new[:, :2], x[:, :2])
    assert sum(map(len, encoded))
    assert all(part.abs().max() < 100 for part in encoded)


@pytest.mark.parametrize(
    ("tokens", "each"), [("all", 5), ("image", 3), ("last", 1), ("generated", 0), (Span(-2), 2)]
)
def test_an_edit_encodes_its_token_set_alone(
    tokens: TokenSet | Span, each: int, sae: JumpReLU, batch: Batch, encoded: list[Tensor]
) -> None:
    x = batch.inputs["x"]
    new = steer(sae, LATENTS, 0.0, tokens=tokens)(x, batch)
    assert sum(map(len, encoded)) == ROWS * each
    assert each or torch.equal(new, x)


def test_neither_attribution_encodes_bos_or_padding(
    linear_lmm: LMM, sae: JumpReLU, batch: Batch, hookpoint: Hookpoint, encoded: list[Tensor]
) -> None:
    found = attribute(linear_lmm, batch, hookpoint, sae)
    whole = integrate(linear_lmm, batch, hookpoint, sae, steps=2).attribution
    assert all(part.abs().max() < 100 for part in encoded)
    busiest = sae.encode(batch.inputs["x"][:, 2:]).values.shape[-1]
    assert found.indices.shape[-1] == whole.indices.shape[-1] == busiest
    total = found.values.sum((1, 2)) + found.error.sum(1) + found.bias.sum(1)
    torch.testing.assert_close(total, found.metric)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_what_is_encoded_is_what_the_sae_says_of_those_tokens(chosen: list[bool]) -> None:
    sae = JumpReLU.random(N_LATENTS, 8, 4, seed=0)
    sae.threshold.fill_(1.0)
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    inside = torch.tensor(chosen).reshape(3, 4)
    found, wanted = encode_at(sae, x, inside), sae.encode(x)
    decoded, whole = sae.decode(found), sae.decode(wanted)
    torch.testing.assert_close(decoded[inside], whole[inside])
    assert not found.values[~inside].any()
    new = reconstruct_at(sae, x, inside)
    torch.testing.assert_close(new[inside], whole[inside])
    assert torch.equal(new[~inside], x[~inside])


def test_a_busy_token_among_many_that_are_not_encoded_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slot for each that it fires is held at every token."""
    sae = JumpReLU.random(N_LATENTS, 8, 4, seed=0)
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    inside = torch.zeros(3, 4, dtype=torch.bool)
    inside[1, 2] = True
    slots = encode_at(sae, x, inside).values.shape[-1]
    monkeypatch.setattr("lmmsae_eval.sae.sae._SLOTS", 12 * slots)
    encode_at(sae, x, inside)
    monkeypatch.setattr("lmmsae_eval.sae.sae._SLOTS", 12 * slots - 1)
    with pytest.raises(UsageError, match=f"one of 12 tokens {slots} of 64 latents fire") as error:
        encode_at(sae, x, inside)
    assert "\n" not in str(error.value)


def test_gradients_pass_a_reconstruction(sae: JumpReLU, batch: Batch) -> None:
    x = batch.inputs["x"].clone().requires_grad_()
    reconstruct_at(sae, x, token_mask(batch.kinds, "all")).sum().backward()
    outside = (batch.kinds == TokenKind.BOS) | (batch.kinds == TokenKind.PAD)
    assert x.grad is not None
    assert (x.grad[outside] == 1).all()
    assert not (x.grad[~outside] == 1).all()
