"""Which latents might correct a topic's wrong answers, from attribution alone.

Everything is signed towards the truth: `gain[i, j]` is how much latent j supports the right answer
of item i (to first order), `margin[i]` how far item i is on the right side. Multiplying a set of
latents by `scale` then moves an item by about `(scale - 1) * gain[i, latents].sum()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arms import Edit
from .options import AMPLIFYING, SUPPRESSING

if TYPE_CHECKING:
    from torch import Tensor

_POOL = 6
"""Best latents of each direction that are combined."""
_HARM = 2.0
"""A right answer lost weighs as much as two wrong ones mended, while ranking."""


def screen(gain: Tensor, margin: Tensor, max_latents: int) -> list[tuple[float, Edit]]:
    """Every considered edit with its predicted worth, best first.

    gain `(items, latents)`, margin `(items,)`.
    """
    wrong = margin < 0
    sets = [
        (latents, scales)
        for sign, scales in ((-1.0, SUPPRESSING), (1.0, AMPLIFYING))
        for latents in _sets(_contrast(sign * gain, wrong), max_latents)
    ]
    scored = [
        (_worth(gain[:, list(latents)].sum(1), margin, scale), Edit(latents, scale))
        for latents, scales in sets
        for scale in scales
    ]
    return sorted(scored, key=lambda pair: (-pair[0], pair[1].latents, pair[1].scale))


def shortlist(ranked: Sequence[tuple[float, Edit]], n: int) -> list[Edit]:
    """The best edit of each strength, as first order misjudges strong ones; then the best left."""
    by_scale: dict[float, Edit] = {}
    for _, edit in ranked:
        by_scale.setdefault(edit.scale, edit)
    firsts = list(by_scale.values())
    rest = [edit for _, edit in ranked if edit not in firsts]
    return [*firsts, *rest][:n]


def _contrast(push: Tensor, wrong: Tensor) -> Tensor:
    """Help on wrong items minus harm on right ones, were the latents moved along `push`."""
    helps = push[wrong].mean(0)
    harms = (-push[~wrong]).clamp_min(0).mean(0) if (~wrong).any() else 0.0
    return helps - harms


def _sets(contrast: Tensor, max_latents: int) -> list[tuple[int, ...]]:
    """The best latents one by one, and the best two, three, ... together."""
    values, order = contrast.topk(min(_POOL, len(contrast)))
    pool = [int(j) for j, value in zip(order.tolist(), values.tolist(), strict=True) if value > 0]
    together = [tuple(sorted(pool[:m])) for m in range(2, max_latents + 1) if m <= len(pool)]
    return [*((j,) for j in pool), *together]


def _worth(gain: Tensor, margin: Tensor, scale: float) -> float:
    """Predicted answers mended minus those broken, counted softly."""
    spread = margin.abs().mean().clamp_min(1e-6)
    before, after = ((m / spread * 4).sigmoid() for m in (margin, margin + (scale - 1) * gain))
    wrong = margin < 0
    mended = (after - before)[wrong].clamp_min(0).mean()
    broken = (before - after)[~wrong].clamp_min(0).mean() if (~wrong).any() else mended * 0
    return float(mended - _HARM * broken)
