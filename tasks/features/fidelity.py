"""What a model loses when an SAE's reconstruction, or nothing, replaces its residual stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...sae.encoding import encode_at
from ...sae.residual import capture
from ...sae.tokens import TokenSet, token_mask
from ..hallucination.benchmark import NO, YES

if TYPE_CHECKING:
    from ...sae.lmm import LMM, Batch, Hook, Hookpoint
    from ...sae.sae import SAE

KINDS: tuple[TokenSet, ...] = ("all", "image", "text")
"""Where the reconstruction stands in; everywhere else the stream stays as it is."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One question, one kind of token: sums that can be added over questions."""

    error: float
    """Squared distance of stream and reconstruction, summed over tokens."""
    spread: float
    """Squared distance of stream and the mean of its kind."""
    tokens: int
    active: int
    """Latents above 0, summed over tokens."""
    ce: float
    """Cross-entropy of the true answer at the answer's place."""
    ce_clean: float
    ce_zero: float
    margin: float
    """How far logit(yes) - logit(no) moved."""
    margin_zero: float
    """How far it moves when the tokens are set to zero."""
    flip: int
    """Whether the answer changed sides."""

    def document(self) -> dict[str, float]:
        return {name: round(float(value), 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Answers:
    """`(questions,)` each."""

    ce: Tensor
    margin: Tensor


class Fidelity:
    """Replaces the stream at one hookpoint by another and looks at the answer."""

    def __init__(self, lmm: LMM, means: Mapping[tuple[str, TokenSet], Tensor]) -> None:
        self._lmm, self._means = lmm, means

    def losses(
        self, batch: Batch, truth: Sequence[bool], hookpoint: Hookpoint, sae: SAE | None
    ) -> list[dict[TokenSet, Loss]]:
        """Per question and kind of token. Without an SAE the mean of the kind stands in."""
        with torch.no_grad():
            x = capture(self._lmm, batch, [hookpoint])[hookpoint]
            clean = self._answers(batch, truth, {})
            parts = [self._kind(batch, truth, hookpoint, sae, x, clean, kind) for kind in KINDS]
        return [dict(zip(KINDS, row, strict=True)) for row in zip(*parts, strict=True)]

    def _kind(
        self,
        batch: Batch,
        truth: Sequence[bool],
        hookpoint: Hookpoint,
        sae: SAE | None,
        x: Tensor,
        clean: Answers,
        kind: TokenSet,
    ) -> list[Loss]:
        mask = token_mask(batch.kinds, kind).to(x.device)
        mean = self._means[hookpoint.name, kind].to(x)
        new, active = _stand_in(sae, x, mean, mask)
        swap = self._answers(batch, truth, {hookpoint: _replaced(new, mask)})
        zero = self._answers(batch, truth, {hookpoint: _replaced(torch.zeros_like(x), mask)})
        return [
            Loss(
                error=float((x[i] - new[i])[mask[i]].double().pow(2).sum()),
                spread=float((x[i] - mean)[mask[i]].double().pow(2).sum()),
                tokens=int(mask[i].sum()),
                active=int(active[i][mask[i]].sum()),
                ce=float(swap.ce[i]),
                ce_clean=float(clean.ce[i]),
                ce_zero=float(zero.ce[i]),
                margin=float((swap.margin[i] - clean.margin[i]).abs()),
                margin_zero=float((zero.margin[i] - clean.margin[i]).abs()),
                flip=int((swap.margin[i] > 0) != (clean.margin[i] > 0)),
            )
            for i in range(len(batch))
        ]

    def _answers(
        self, batch: Batch, truth: Sequence[bool], hooks: Mapping[Hookpoint, Hook]
    ) -> Answers:
        logits = self._lmm.forward(batch, hooks)
        assert logits is not None
        yes, no = self._lmm.token_id(YES), self._lmm.token_id(NO)
        logs = logits.float().log_softmax(-1)
        said = torch.tensor([yes if is_yes else no for is_yes in truth], device=logs.device)
        ce = -logs.gather(1, said[:, None])[:, 0]
        return Answers(ce.cpu(), (logs[:, yes] - logs[:, no]).cpu())


def kind_means(
    lmm: LMM, batches: Sequence[Batch], hookpoints: Sequence[Hookpoint]
) -> dict[tuple[str, TokenSet], Tensor]:
    """`(d_model,)` mean of the stream at each hookpoint over the tokens of each kind."""
    sums: dict[tuple[str, TokenSet], Tensor] = {}
    counts: dict[tuple[str, TokenSet], int] = {}
    for batch in batches:
        for hookpoint, x in capture(lmm, batch, hookpoints).items():
            for kind in KINDS:
                chosen = x[token_mask(batch.kinds, kind).to(x.device)].double()
                key = hookpoint.name, kind
                sums[key] = sums.get(key, torch.zeros(x.shape[-1]).to(chosen)) + chosen.sum(0)
                counts[key] = counts.get(key, 0) + len(chosen)
    return {key: (total / max(counts[key], 1)).cpu() for key, total in sums.items()}


def _stand_in(sae: SAE | None, x: Tensor, mean: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """What replaces the stream `inside`, and `(questions, tokens)` latents that made it."""
    if sae is None:
        return mean.expand_as(x), torch.zeros(x.shape[:-1])
    latents = encode_at(sae, x, inside)
    return sae.decode(latents).to(x), (latents.values > 0).sum(-1)


def _replaced(new: Tensor, mask: Tensor) -> Hook:
    def hook(x: Tensor, batch: Batch) -> Tensor:
        return torch.where(mask[..., None], new.to(x), x)

    return hook
