"""The arms of a steering experiment: what is done to the residual stream during a question."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .asking import Asker, Reply
from .questions import Question

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.lmm import Hook
    from ...sae.sae import SAE, TrainedSae
    from ...sae.steering import Edit as SaeEdit

UNTOUCHED = "untouched"
RECONSTRUCTION = "reconstruction"
RECONSTRUCTION_ERROR = "reconstruction+error"
STEERED = "main"
"""Steered, error-preserving: the effect of the latents alone."""
STEERED_REPLACE = "steered_replace"
"""Steered as the paper does: the reconstruction takes the place of the residual stream."""
STEERED_GLOBAL = "steered_global"
"""One set of latents and one strength for all topics, error-preserving."""
RANDOM = "random"
"""Prefix of the random draws: `random_00`, `random_01`, ..."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Latents whose activation is multiplied by `scale`: 0 ablates, -1 flips, above 1 amplifies."""

    latents: tuple[int, ...] = ()
    scale: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.latents) and self.scale != 1.0


NOTHING = Edit()


@dataclass(frozen=True)
class Plan:
    """Which edit each topic gets. Topics that were never seen get the edit for all."""

    by_topic: Mapping[str, Edit]
    everywhere: Edit
    live: Sequence[int] = field(default=(), repr=False)
    """Latents that random controls are drawn from."""

    def edit(self, question: Question) -> Edit:
        return self.by_topic.get(question.topic, self.everywhere)


def rows_of(edits: Sequence[Edit]) -> tuple[Tensor, Tensor]:
    """Latents `(rows, m)`, padded with -1, and scales `(rows, 1)`: a batch may mix topics."""
    import torch

    width = max((len(edit.latents) for edit in edits), default=0)
    latents = torch.full((len(edits), width), -1, dtype=torch.long)
    for row, edit in enumerate(edits):
        latents[row, : len(edit.latents)] = torch.tensor(edit.latents, dtype=torch.long)
    return latents, torch.tensor([[edit.scale] for edit in edits])


def steering_hook(sae: SAE, edits: Sequence[Edit], *, error_preserving: bool) -> SaeEdit:
    """One hook for a batch whose rows have their own edits."""
    from ...sae.steering import steer

    latents, scales = rows_of(edits)
    return steer(sae, latents, scales, error_preserving=error_preserving)


def random_edit(plan: Plan, edit: Edit, topic: str, draw: int, seed: int) -> Edit:
    """As many other live latents; one draw per topic, as the chosen ones are one set per topic."""
    others = [latent for latent in plan.live if latent not in edit.latents]
    count = min(len(edit.latents), len(others))
    chosen = random.Random(f"{seed}:{draw}:{topic}").sample(others, count)
    return Edit(tuple(chosen), edit.scale)


def random_hook(sae: SAE, edits: Sequence[Edit], others: Sequence[Edit]) -> Hook:
    """Moves along other latents' decoder rows, by the norm of the real edit at every token."""
    from ...sae.steering import matched_direction

    real = steering_hook(sae, edits, error_preserving=True)
    return matched_direction(sae, real, rows_of(others)[0])


def run_arm(
    arm: str,
    asker: Asker,
    trained: TrainedSae,
    plan: Plan,
    questions: Sequence[Question],
    seed: int,
) -> list[Reply]:
    """Replies to `questions` under one arm."""
    if arm == UNTOUCHED:
        return asker.untouched(questions)
    edits = [plan.edit(q) for q in questions]
    if arm == STEERED_GLOBAL:
        edits = [plan.everywhere] * len(questions)
    make = _hooks(arm, trained.sae, plan, questions, edits, seed)
    whole = arm in (RECONSTRUCTION, RECONSTRUCTION_ERROR, STEERED_REPLACE)
    edited = [whole or bool(edit) for edit in edits]
    return asker.steered(questions, trained.hookpoint, make, edited)


def _hooks(
    arm: str,
    sae: SAE,
    plan: Plan,
    questions: Sequence[Question],
    edits: Sequence[Edit],
    seed: int,
) -> Callable[[Sequence[int]], Hook]:
    from ...sae.steering import reconstruct

    if arm in (RECONSTRUCTION, RECONSTRUCTION_ERROR):
        return lambda rows: reconstruct(sae, error=arm == RECONSTRUCTION_ERROR)
    if arm.startswith(RANDOM):
        draw = int(arm.removeprefix(f"{RANDOM}_"))
        others = [
            random_edit(plan, edit, q.topic, draw, seed)
            for q, edit in zip(questions, edits, strict=True)
        ]
        return lambda rows: random_hook(sae, [edits[r] for r in rows], [others[r] for r in rows])
    preserving = arm != STEERED_REPLACE
    return lambda rows: steering_hook(sae, [edits[r] for r in rows], error_preserving=preserving)


def arm_names(n_random: int) -> list[str]:
    """All arms that are run at each SAE; `untouched` is run once, without any."""
    steered = [STEERED, STEERED_REPLACE, STEERED_GLOBAL]
    draws = [f"{RANDOM}_{draw:02d}" for draw in range(n_random)]
    return [RECONSTRUCTION, RECONSTRUCTION_ERROR, *steered, *draws]
