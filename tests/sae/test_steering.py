"""Writing the residual stream through an SAE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.lmm import LMM, Batch, Prompt, TokenKind
from lmmsae_eval.sae.residual import capture, yes_no
from lmmsae_eval.sae.steering import (
    Edit,
    add,
    as_released,
    clamp,
    matched_direction,
    reconstruct,
    steer,
    together,
)
from lmmsae_eval.sae.tokens import Span, TokenSet
from lmmsae_eval.sae.topk import TopK
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NONE = -1


@pytest.fixture
def batch(linear_lmm: LMM) -> Batch:
    return linear_lmm.prepare([Prompt("1"), Prompt("2"), Prompt("3")])


@pytest.fixture
def x(linear_lmm: LMM, batch: Batch) -> Tensor:
    hookpoint = linear_lmm.hookpoint(2)
    return capture(linear_lmm, batch, [hookpoint])[hookpoint]


def most_active(sae: TopK, x: Tensor) -> Tensor:
    """Per prompt the two strongest latents of an edited token."""
    return sae.encode(x).indices[:, 2, :2].long()


def editable(batch: Batch) -> Tensor:
    return (batch.kinds != TokenKind.PAD) & (batch.kinds != TokenKind.BOS)


def every_edit(sae: TopK, latents: Tensor) -> list[Edit]:
    return [
        change(sae, latents, amount, preserving, "all")
        for change in (steer, clamp, add)
        for amount in (0.0, 3.0)
        for preserving in (True, False)
    ]


def test_reconstruction_plus_error_leaves_the_stream_untouched(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    torch.testing.assert_close(reconstruct(random_sae, error=True)(x, batch), x)


def test_reconstruction_alone_is_the_saes_output(random_sae: TopK, batch: Batch, x: Tensor) -> None:
    new = reconstruct(random_sae, error=False)(x, batch)
    inside = editable(batch)
    torch.testing.assert_close(new[inside], random_sae.reconstruct(x)[inside])


class LargestTensor(TorchDispatchMode):
    """The most numbers of any tensor that an operator returns meanwhile."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, Tensor):
                size = one.untyped_storage().nbytes() // one.itemsize
                self.numbers = max(self.numbers, size)
        return result


def test_splicing_and_editing_make_no_dense_latents() -> None:
    n_tokens, n_latents, bounded = 9000, 4096, 2**25
    sae = TopK.random(n_latents, 8, 3, seed=0)
    x = torch.randn(1, n_tokens, 8, generator=torch.Generator().manual_seed(0))
    kinds = torch.full((1, n_tokens), TokenKind.IMAGE, dtype=torch.int8)
    assert n_tokens * n_latents > bounded
    for hook in (reconstruct(sae, error=False), steer(sae, torch.arange(3), 0.0)):
        with LargestTensor() as largest:
            hook(x, Batch({}, kinds, []))
        assert 0 < largest.numbers <= bounded


def test_steering_with_scale_1_changes_nothing(random_sae: TopK, batch: Batch, x: Tensor) -> None:
    latents = most_active(random_sae, x)
    assert torch.equal(steer(random_sae, latents, 1.0)(x, batch), x)
    replaced = steer(random_sae, latents, 1.0, error_preserving=False)(x, batch)
    assert torch.equal(replaced, reconstruct(random_sae, error=False)(x, batch))


def test_clamping_to_the_value_it_has_changes_nothing(random_sae: TopK, linear_lmm: LMM) -> None:
    batch = linear_lmm.prepare([Prompt("1")])
    x = batch.inputs["x"]
    x[:] = x[:, 2:3]  # the same token everywhere, so that one value fits all
    latents = random_sae.encode(x)
    edit = clamp(random_sae, latents.indices[0, 2, :1], latents.values[0, 2, 0].item())
    torch.testing.assert_close(edit(x, batch), x)


@pytest.mark.parametrize("preserving", [True, False])
@pytest.mark.parametrize("scale", [0.0, -1.0, 2.5])
def test_steering_is_decoding_the_scaled_latents(
    random_sae: TopK, batch: Batch, x: Tensor, scale: float, preserving: bool
) -> None:
    chosen = most_active(random_sae, x)
    latents = random_sae.encode(x)
    hit = (latents.indices[..., None] == chosen[:, None, None]).any(-1)
    scaled = latents._replace(values=torch.where(hit, scale * latents.values, latents.values))
    wanted = random_sae.decode(scaled)
    if preserving:
        wanted = x + wanted - random_sae.decode(latents)
    new = steer(random_sae, chosen, scale, preserving)(x, batch)
    inside = editable(batch)
    torch.testing.assert_close(new[inside], wanted[inside])


def test_a_clamped_latent_is_added_where_it_was_silent(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    active = set(random_sae.encode(x).indices[0, 3].tolist())
    silent = min(set(range(20)) - active)
    moved = clamp(random_sae, torch.tensor([silent]), 4.0)(x, batch) - x
    torch.testing.assert_close(moved[0, 3], 4.0 * random_sae.W_dec[silent])


def test_an_amount_is_added_to_a_latent_whether_it_fires_or_not(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    moved = add(random_sae, torch.tensor([0, 7]), torch.tensor([2.0, -1.0]))(x, batch) - x
    wanted = 2.0 * random_sae.W_dec[0] - random_sae.W_dec[7]
    torch.testing.assert_close(moved[:, 2:], wanted.expand_as(moved[:, 2:]))


def test_edits_together_each_see_the_stream_before_all_of_them(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    first, second = most_active(random_sae, x).split(1, 1)
    edits = [steer(random_sae, first, 0.0, tokens="image"), clamp(random_sae, second, 9.0)]
    both = together(*edits)(x, batch)
    torch.testing.assert_close(both, x + edits[0].delta(x, batch) + edits[1].delta(x, batch))
    reversed_ = together(*edits[::-1])(x, batch)
    torch.testing.assert_close(reversed_, both)
    replacing = [steer(random_sae, latents, 0.0, False) for latents in (first, second)]
    at_once = steer(random_sae, torch.cat([first, second], 1), 0.0, False)
    torch.testing.assert_close(together(*replacing)(x, batch), at_once(x, batch))


def test_edits_together_read_the_stream_once_for_each_sae(
    random_sae: TopK, batch: Batch, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = TopK.encode, []
    monkeypatch.setattr(TopK, "encode", lambda sae, x: (calls.append(1), encode(sae, x))[1])
    edits = [clamp(random_sae, torch.tensor([i]), 1.0) for i in range(5)]
    together(*edits)(x, batch)
    assert len(calls) == 1


def test_edits_that_disagree_on_the_stream_are_refused(random_sae: TopK) -> None:
    latents = torch.tensor([0])
    with pytest.raises(ValueError, match="all replace the stream or all preserve it"):
        together(steer(random_sae, latents, 0.0), steer(random_sae, latents, 0.0, False))
    other = random_sae.untrained()
    with pytest.raises(ValueError, match="only one SAE"):
        together(steer(random_sae, latents, 0.0, False), steer(other, latents, 0.0, False))


def test_the_released_clamp_lets_another_latent_give_way(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    """In the published code's own words: pre-activations, clamp, top k, decode."""
    new = as_released(random_sae, [4], 50.0)(x, batch)
    pre = random_sae.pre_activations(x.reshape(-1, 8))
    pre[:, 4] = 50.0
    top = pre.relu().topk(random_sae.k)
    dense = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    wanted = (dense @ random_sae.W_dec + random_sae.b_dec).reshape(x.shape)
    torch.testing.assert_close(new[:, 1:], wanted[:, 1:])
    assert torch.equal(new[:, 0], x[:, 0])
    ours = clamp(random_sae, torch.tensor([4]), 50.0, error_preserving=False)(x, batch)
    assert not torch.allclose(new[:, 2:], ours[:, 2:])


def test_the_released_clamp_only_reconstructs_what_is_decoded(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    decoded = Batch({}, batch.kinds[:, -1:] * 0 + TokenKind.ANSWER, batch.boxes)
    new = as_released(random_sae, [4], 50.0)(x[:, -1:], decoded)
    torch.testing.assert_close(new, random_sae.reconstruct(x[:, -1:]))


def test_each_prompt_is_steered_along_its_own_latents_and_minus_one_is_none(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    chosen = most_active(random_sae, x)[:, :1]
    chosen[1] = NONE
    together = steer(random_sae, chosen, 0.0)(x, batch)
    assert torch.equal(together[1], x[1])
    for row in (0, 2):
        alone = steer(random_sae, chosen[row], 0.0)(x, batch)
        torch.testing.assert_close(together[row], alone[row])
        assert not torch.equal(together[row], x[row])


def test_a_tensor_of_scales_steers_each_latent_by_its_own(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    chosen = most_active(random_sae, x)
    both = steer(random_sae, chosen, torch.tensor([0.0, 3.0]))(x, batch) - x
    first = steer(random_sae, chosen[:, :1], 0.0)(x, batch) - x
    second = steer(random_sae, chosen[:, 1:], torch.full((3, 1), 3.0))(x, batch) - x
    torch.testing.assert_close(both, first + second)


def test_padding_and_bos_are_never_edited(random_sae: TopK, batch: Batch, x: Tensor) -> None:
    latents = most_active(random_sae, x)
    hooks = [
        reconstruct(random_sae, False),
        reconstruct(random_sae, True),
        *every_edit(random_sae, latents),
    ]
    hooks += [
        matched_direction(random_sae, edit, latents) for edit in every_edit(random_sae, latents)
    ]
    hooks.append(together(*every_edit(random_sae, latents)[::2]))
    x[:, :2] = float("nan")  # neither may they leak into others
    for hook in hooks:
        new = hook(x, batch)
        assert new[:, :2].isnan().all()
        assert new[:, 2:].isfinite().all()


@pytest.mark.parametrize(
    ("tokens", "edited"),
    [
        ("all", [2, 3, 4, 5, 6]),
        ("image", [2, 3, 4]),
        ("text", [5, 6]),
        ("last", [6]),
        (Span(2, -1), [3, 4, 5]),
    ],
)
def test_a_token_set_limits_the_edit(
    random_sae: TopK, batch: Batch, x: Tensor, tokens: TokenSet | Span, edited: list[int]
) -> None:
    changed = (clamp(random_sae, torch.tensor([0]), 9.0, tokens=tokens)(x, batch) != x).any(-1)
    assert all(row.nonzero()[:, 0].tolist() == edited for row in changed)


def test_replacing_rewrites_all_tokens_though_latents_change_at_some(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    edit = clamp(random_sae, torch.tensor([0]), 9.0, error_preserving=False, tokens="last")
    torch.testing.assert_close(
        edit(x, batch)[:, :-1], reconstruct(random_sae, False)(x, batch)[:, :-1]
    )


def test_an_unknown_token_set_is_a_usage_error(random_sae: TopK, batch: Batch, x: Tensor) -> None:
    with pytest.raises(UsageError, match="choose one of all, image, text"):
        steer(random_sae, torch.tensor([0]), 0.0, tokens="sky")(x, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("preserving", [True, False])
def test_the_matched_direction_moves_each_token_exactly_as_far_as_the_real_edit(
    random_sae: TopK, batch: Batch, x: Tensor, preserving: bool
) -> None:
    real = steer(random_sae, most_active(random_sae, x), 0.0, preserving)
    others = torch.tensor([[4, 5], [6, NONE], [7, 8]])
    moved = matched_direction(random_sae, real, others)(x, batch) - real.base(x, batch)
    torch.testing.assert_close(moved.norm(dim=-1), real.delta(x, batch).norm(dim=-1))
    along = torch.nn.functional.cosine_similarity(
        moved, -random_sae.W_dec[6].expand_as(moved), dim=-1
    )
    torch.testing.assert_close(
        along[1][moved[1].norm(dim=-1) > 0], torch.ones_like(along[1])[moved[1].norm(dim=-1) > 0]
    )
    assert moved[1].any()


def test_a_control_without_latents_leaves_the_base(
    random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    real = steer(random_sae, most_active(random_sae, x), 0.0)
    assert torch.equal(matched_direction(random_sae, real, torch.full((3, 2), NONE))(x, batch), x)


def test_hooks_keep_the_streams_precision(random_sae: TopK, batch: Batch, x: Tensor) -> None:
    low = x.bfloat16()
    for edit in every_edit(random_sae, most_active(random_sae, x)):
        assert edit(low, batch).dtype == torch.bfloat16


def test_steering_moves_the_answer_as_far_as_the_read_out_says(
    linear_lmm: LMM, random_sae: TopK, batch: Batch, x: Tensor
) -> None:
    edit = steer(random_sae, most_active(random_sae, x), 0.0)
    before = yes_no(linear_lmm, batch)
    after = yes_no(linear_lmm, batch, {linear_lmm.hookpoint(2): edit})
    readout = linear_lmm.readout  # type: ignore[attr-defined]
    torch.testing.assert_close(after - before, (edit.delta(x, batch) * readout).sum((1, 2)))
