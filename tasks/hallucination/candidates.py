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
_CONSIDERED = 512
"""Latents with most attribution that are looked at."""
_HARM = 2.0
"""A right answer lost weighs as much as two wrong ones mended, while ranking."""


def screen(gain: Tensor, margin: Tensor, max_latents: int) -> list[tuple[float, Edit]]:
    """Every considered edit with its predicted worth, best first.

    gain `(items, latents)`, margin `(items,)`.
    """
    scored: list[tuple[float, Edit]] = []
    for scales in (SUPPRESSING, AMPLIFYING):
        sets = _sets(gain, margin, scales, max_latents)
        summed = _sums(gain, sets)
        for scale in scales:
            worths = _worth(summed, margin, scale).tolist()
            edits = (Edit(latents, scale) for latents in sets)
            scored += zip(worths, edits, strict=True)
    return sorted(scored, key=lambda pair: (-pair[0], pair[1].latents, pair[1].scale))


def shortlist(ranked: Sequence[tuple[float, Edit]], n: int) -> list[Edit]:
    """The best edit of each strength, as first order misjudges strong ones; then the best left."""
    by_scale: dict[float, Edit] = {}
    for _, edit in ranked:
        by_scale.setdefault(edit.scale, edit)
    firsts = list(by_scale.values())
    rest = [edit for _, edit in ranked if edit not in firsts]
    return [*firsts, *rest][:n]


def _sets(
    gain: Tensor, margin: Tensor, scales: Sequence[float], max_latents: int
) -> list[tuple[int, ...]]:
    """The best latents one by one, and the best two, three, ... together.

    A latent counts at its best strength: one that pushes all items the same way still mends, as
    long as the right ones can bear the loss.
    """
    import torch

    known = gain.abs().mean(0).topk(min(_CONSIDERED, gain.shape[1])).indices
    each = torch.stack([_worth(gain[:, known], margin, scale) for scale in scales]).amax(0)
    values, order = each.topk(min(_POOL, len(known)))
    pool = [j for j, value in zip(known[order].tolist(), values.tolist(), strict=True) if value > 0]
    together = [tuple(sorted(pool[:m])) for m in range(2, max_latents + 1) if m <= len(pool)]
    return [*((j,) for j in pool), *together]


def _sums(gain: Tensor, sets: Sequence[tuple[int, ...]]) -> Tensor:
    """`(items, sets)`: the gain of each set."""
    import torch

    columns = [gain[:, list(latents)].sum(1) for latents in sets]
    return torch.stack(columns, 1) if columns else gain[:, :0]


def _worth(gain: Tensor, margin: Tensor, scale: float) -> Tensor:
    """Per column of `gain`: predicted answers mended minus those broken, counted softly."""
    sharpness = 4 / margin.abs().mean().clamp_min(1e-6)
    before = (margin * sharpness).sigmoid()[:, None]
    after = ((margin[:, None] + (scale - 1) * gain) * sharpness).sigmoid()
    wrong = margin < 0
    mended = (after - before)[wrong].clamp_min(0).mean(0)
    if wrong.all():
        return mended
    return mended - _HARM * (before - after)[~wrong].clamp_min(0).mean(0)
