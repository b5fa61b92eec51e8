"""Controls beyond the standard arms, all at the norm of the real edit and in the same run.

What a correction by SAE features must beat before it says anything of these features: other
latents that are as common and as strong, directions without meaning, the same edit made for another
question, a dense vector from the same dev data.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .arms import Asked, Edit, Hooks, Plan, random_hook, rows_of, steering_hook

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.lmm import Hook
    from ...sae.sae import SAE
    from ...sae.tokens import TokenSet

MATCHED = "matched"
"""Prefix of draws of live latents matched in firing rate and mean activation: `matched_00`, ..."""
DIRECTION = "gaussian_direction"
PERMUTED = "permuted_decoder"
OPPOSITE = "opposite_sign"
SHUFFLED = "shuffled_items"
DENSE = "dense_difference"
DOSES: Mapping[str, float] = {
    "dose_-2": -2.0,
    OPPOSITE: -1.0,
    "dose_-0.5": -0.5,
    "dose_+0.5": 0.5,
    "dose_+2": 2.0,
}
"""By arm, how many times as far as the steered arm; 1 is the steered arm, 0 the untouched one."""
TOKENS: Mapping[str, TokenSet] = {
    "tokens_image": "image",
    "tokens_text": "text",
    "tokens_last": "last",
}
"""By arm, the tokens that are edited; the steered arm edits all."""
_FEWEST_ALIKE = 32
_SHARE_ALIKE = 0.25


def control_arms(n_matched: int) -> list[str]:
    """All that are run at each SAE."""
    draws = [f"{MATCHED}_{draw:02d}" for draw in range(n_matched)]
    return [*draws, DIRECTION, PERMUTED, SHUFFLED, DENSE, *DOSES, *TOKENS]


def control_hooks(arm: str, sae: SAE, asked: Asked, seed: int) -> Hooks:
    """The hooks of any of them but `SHUFFLED` and `DENSE`, which need more than the batch."""
    edits = asked.edits
    if arm in DOSES:
        dosed = [edit.dosed(DOSES[arm]) for edit in edits]
        return lambda rows: steering_hook(sae, [dosed[r] for r in rows])
    if arm in TOKENS:
        return lambda rows: steering_hook(sae, [edits[r] for r in rows], tokens=TOKENS[arm])
    if arm == DIRECTION:
        return _random_directions(sae, asked, edits, seed)
    if arm == PERMUTED:
        return _permuted(sae, edits, seed)
    draw = int(arm.removeprefix(f"{MATCHED}_"))
    others = [
        matched_edit(plan, edit, q.topic, draw, seed)
        for plan, q, edit in zip(asked.plans, asked.questions, edits, strict=True)
    ]
    return lambda rows: random_hook(sae, [edits[r] for r in rows], [others[r] for r in rows])


def matched_edit(plan: Plan, edit: Edit, topic: str, draw: int, seed: int) -> Edit:
    """For each latent another one that fires about as often and as strongly."""
    chooser = random.Random(f"{seed}:{MATCHED}:{draw}:{topic}")
    chosen: list[int] = []
    for latent in edit.latents:
        pool = [j for j in alike(plan, latent) if j not in edit.latents and j not in chosen]
        if pool:
            chosen.append(chooser.choice(pool))
    return Edit(tuple(chosen), edit.scale)


def alike(plan: Plan, latent: int) -> list[int]:
    """The live latents nearest in log firing rate and log mean activation, the nearest first."""
    others = [j for j in plan.live if j != latent and j in plan.activity]
    if latent not in plan.activity:
        return others
    here = _place(plan, latent)
    nearest = sorted(others, key=lambda j: (math.dist(here, _place(plan, j)), j))
    return nearest[: max(_FEWEST_ALIKE, round(_SHARE_ALIKE * len(nearest)))]


def _place(plan: Plan, latent: int) -> tuple[float, float]:
    known = plan.activity[latent]
    return math.log(known.rate + 1e-4), math.log(known.mean + 1e-4)


def _random_directions(sae: SAE, asked: Asked, edits: Sequence[Edit], seed: int) -> Hooks:
    """A Gaussian direction a topic, as the chosen latents are one set a topic."""
    import torch

    from ...sae.displacement import as_far

    drawn = torch.stack([_gaussian(sae.d_model, f"{seed}:{q.topic}") for q in asked.questions])
    return lambda rows: as_far(
        steering_hook(sae, [edits[r] for r in rows]), drawn[list(rows)].to(sae.W_dec)
    )


def _gaussian(width: int, name: str) -> Tensor:
    import torch

    seed = random.Random(f"{DIRECTION}:{name}").getrandbits(62)
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def _permuted(sae: SAE, edits: Sequence[Edit], seed: int) -> Hooks:
    """One random permutation of all decoder rows: values of these latents, meanings of others."""
    import torch

    from ...sae.displacement import swapped_decoder

    shuffled = torch.Generator().manual_seed(seed)
    order = torch.randperm(sae.n_latents, generator=shuffled)

    def make(rows: Sequence[int]) -> Hook:
        mine = [edits[r] for r in rows]
        return swapped_decoder(steering_hook(sae, mine), order[rows_of(mine)[0].clamp_min(0)])

    return make
