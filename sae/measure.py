"""How good an SAE in training is on a batch: FVU, L0 and dead share, overall and per token kind.

What is counted can be added up, over pieces of a batch and over ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .lmm import TokenKind
from .sae import Latents
from .trainer import Forward

N_KINDS = len(TokenKind)
FIRING = 2
"""The column of a tally that counts firing latents."""


def fired_by_kind(latents: Latents, kinds: Tensor, n_latents: int) -> Tensor:
    """`(token kinds, n_latents)` bool: which latents fired on a token of each kind."""
    on = latents.values > 0
    fired = torch.zeros(N_KINDS, n_latents, dtype=torch.bool, device=on.device)
    rows = kinds.to(on.device).long()[:, None].expand_as(on)[on]
    fired[rows, latents.indices[on].long()] = True
    return fired


def tally(x: Tensor, kinds: Tensor, done: Forward) -> Tensor:
    """`(token kinds, 4 + d_model)` float64: tokens, squared error, firing latents, squared norm and
    the sum of x.
    """
    sums = torch.zeros(N_KINDS, 4 + x.shape[1], dtype=torch.float64, device=x.device)
    for kind in torch.unique(kinds).tolist():
        of_kind = (kinds == kind).to(x.device)
        mine = x[of_kind]
        sums[kind, 0] = len(mine)
        sums[kind, 1] = done.error[of_kind].pow(2).sum()
        sums[kind, FIRING] = (done.latents.values[of_kind] > 0).sum()
        sums[kind, 3] = mine.pow(2).sum(dtype=torch.float64)
        sums[kind, 4:] = mine.sum(0, dtype=torch.float64)
    return sums


def numbers(sums: Tensor, silent_for: Tensor, dead: Tensor, dead_after: int) -> dict[str, float]:
    """`fvu`, `l0` and `dead` of a tally, and the same with `_<kind>` for each kind in it.

    `silent_for` is `(token kinds, n_latents)`: a latent that fires on images only is dead for text.
    """
    found = _fvu_and_l0(sums.sum(0), "") | {"dead": dead.float().mean().item()}
    for kind in TokenKind:
        if sums[kind, 0] > 0:
            suffix = f"_{kind.name.lower()}"
            found |= _fvu_and_l0(sums[kind], suffix)
            found[f"dead{suffix}"] = (silent_for[kind] >= dead_after).float().mean().item()
    return found


def _fvu_and_l0(sums: Tensor, suffix: str) -> dict[str, float]:
    n, error, firing, squares = sums[:4].tolist()
    rounding = torch.finfo(torch.float32).eps * squares + torch.finfo(torch.float32).tiny
    spread = max(squares - float(sums[4:].pow(2).sum()) / n, rounding)
    return {f"fvu{suffix}": error / spread, f"l0{suffix}": firing / n}
