"""Other ways than attribution to find features: which fire with wrong answers, which with right.

All see dev items alone. Every rule gives each latent one number, above 0 where it goes with wrong
answers; such latents are weakened, the others strengthened, and real forwards decide (`selection`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .arms import Edit
from .options import AMPLIFYING, SUPPRESSING

if TYPE_CHECKING:
    from torch import Tensor

_POOL: Mapping[str, int] = {"ssl": 1, "save": 10, "probe": 10}
"""Latents of each direction that a rule proposes: SSL takes the first, SAVE lists ten."""
_RIDGE = 1.0


def propose(
    strategy: str, active: Tensor, strength: Tensor, wrong: Tensor
) -> list[tuple[float, Edit]]:
    """Edits of single latents, the most telling first. None where all are right or all wrong.

    active `(items, latents)` bool, strength the same shape, wrong `(items,)` bool.
    """
    if bool(wrong.all()) or not bool(wrong.any()):
        return []
    telling = _RULES[strategy](active, strength, wrong)
    ranked: list[tuple[float, Edit]] = []
    for sign, scales in ((1.0, SUPPRESSING), (-1.0, AMPLIFYING)):
        values, latents = (sign * telling).topk(min(_POOL[strategy], len(telling)))
        for value, latent in zip(values.tolist(), latents.tolist(), strict=True):
            if value > 0:
                ranked += [(value, Edit((latent,), scale)) for scale in scales]
    return sorted(ranked, key=lambda pair: (-pair[0], pair[1].latents, pair[1].scale))


def firing_difference(active: Tensor, strength: Tensor, wrong: Tensor) -> Tensor:
    """SSL (arXiv 2505.16146): how much more often a latent fires with wrong answers."""
    fires = active.float()
    return fires[wrong].mean(0) - fires[~wrong].mean(0)


def separation(active: Tensor, strength: Tensor, wrong: Tensor) -> Tensor:
    """SAVE (arXiv 2512.07730): the same with both classes cut to the size of the smaller."""
    fires = active.float()
    n = int(min(wrong.sum(), (~wrong).sum()))
    return fires[wrong][:n].mean(0) - fires[~wrong][:n].mean(0)


def probe(active: Tensor, strength: Tensor, wrong: Tensor) -> Tensor:
    """Weights of a ridge probe for wrong answers, on standardised activations.

    Solved over items, of which there are far fewer than latents.
    """
    import torch

    centred = strength - strength.mean(0)
    x = centred / centred.square().mean(0).sqrt().clamp_min(1e-6)
    y = torch.where(wrong, 1.0, -1.0)
    y = y - y.mean()
    kernel = x @ x.T / x.shape[1]
    weights: Tensor = x.T @ torch.linalg.solve(kernel + _RIDGE * torch.eye(len(y)), y)
    return weights


_RULES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ssl": firing_difference,
    "save": separation,
    "probe": probe,
}
