"""Reading: the residual stream at hookpoints, and the yes/no logit difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .lmm import LMM, Batch, Hook, Hookpoint


def capture(lmm: LMM, batch: Batch, hookpoints: Sequence[Hookpoint]) -> dict[Hookpoint, Tensor]:
    """The residual stream `(batch, tokens, d_model)` at each hookpoint, from one forward stopped
    after the last.
    """
    seen: dict[Hookpoint, Tensor] = {}
    if not hookpoints:
        return seen

    def keep(hookpoint: Hookpoint) -> Hook:
        def hook(x: Tensor, batch: Batch) -> Tensor:
            seen[hookpoint] = x
            return x

        return hook

    last = max(hookpoints, key=lambda hookpoint: hookpoint.index)
    with torch.no_grad():
        lmm.forward(
            batch, {hookpoint: keep(hookpoint) for hookpoint in hookpoints}, stop_after=last
        )
    return seen


def yes_no(lmm: LMM, batch: Batch, hooks: Mapping[Hookpoint, Hook] | None = None) -> Tensor:
    """`(batch,)`: logit(yes) - logit(no) of the answer's first token. Positive means yes."""
    logits = lmm.forward(batch, hooks)
    assert logits is not None
    return logits[:, lmm.token_id("yes")] - logits[:, lmm.token_id("no")]
