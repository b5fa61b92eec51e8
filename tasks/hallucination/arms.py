"""The arms of a steering experiment: what is done to the residual stream during a question."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .questions import Question

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.lmm import Hook
    from ...sae.sae import SAE
    from ...sae.steering import Edit as SaeEdit
    from ...sae.tokens import TokenSet

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
SPLICED = (RECONSTRUCTION, RECONSTRUCTION_ERROR, STEERED_REPLACE)
"""Arms that touch every question, whether or not its topic has an edit."""

Hooks = Callable[[Sequence[int]], "Hook"]
"""The hook for some rows of the batch that an arm was made for."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Latents whose activation is multiplied by `scale`: 0 ablates, -1 flips, above 1 amplifies."""

    latents: tuple[int, ...] = ()
    scale: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.latents) and self.scale != 1.0

    def dosed(self, factor: float) -> Edit:
        """The same latents moved `factor` times as far; below 0 the other way."""
        return Edit(self.latents, 1.0 + factor * (self.scale - 1.0))


NOTHING = Edit()


@dataclass(frozen=True, slots=True)
class Activity:
    """How often a latent fires on the dev prompts, and how strongly where it does."""

    rate: float
    """Share of prompts."""
    mean: float
    """Over the tokens that it is active on."""


@dataclass(frozen=True)
class Plan:
    """Which edit each topic gets. Topics that were never seen get the edit for all."""

    by_topic: Mapping[str, Edit]
    everywhere: Edit
    live: Sequence[int] = field(default=(), repr=False)
    """Latents that random controls are drawn from."""
    activity: Mapping[int, Activity] = field(default_factory=dict, repr=False)
    """Of the live latents and of those that are edited."""

    def edit(self, question: Question) -> Edit:
        return self.by_topic.get(question.topic, self.everywhere)


@dataclass(frozen=True)
class Asked:
    """Questions of one batch with the plan of each: cross-fitting has one a fold."""

    questions: Sequence[Question]
    plans: Sequence[Plan]

    @property
    def edits(self) -> list[Edit]:
        return [plan.edit(q) for plan, q in zip(self.plans, self.questions, strict=True)]

    @property
    def everywhere(self) -> list[Edit]:
        return [plan.everywhere for plan in self.plans]


def rows_of(edits: Sequence[Edit]) -> tuple[Tensor, Tensor]:
    """Latents `(rows, m)`, padded with -1, and scales `(rows, 1)`: a batch may mix topics."""
    import torch

    width = max((len(edit.latents) for edit in edits), default=0)
    latents = torch.full((len(edits), width), -1, dtype=torch.long)
    for row, edit in enumerate(edits):
        latents[row, : len(edit.latents)] = torch.tensor(edit.latents, dtype=torch.long)
    return latents, torch.tensor([[edit.scale] for edit in edits])


def steering_hook(
    sae: SAE, edits: Sequence[Edit], *, error_preserving: bool = True, tokens: TokenSet = "all"
) -> SaeEdit:
    """One hook for a batch whose rows have their own edits."""
    from ...sae.steering import steer

    latents, scales = rows_of(edits)
    return steer(sae, latents, scales, error_preserving, tokens)


def random_edit(plan: Plan, edit: Edit, topic: str, draw: int, seed: int) -> Edit:
    """As many other live latents; one draw per topic, as the chosen ones are one set per topic."""
    others = [latent for latent in plan.live if latent not in edit.latents]
    count = min(len(edit.latents), len(others))
    chosen = random.Random(f"{seed}:{draw}:{topic}").sample(others, count)
    return Edit(tuple(chosen), edit.scale)


def random_hook(sae: SAE, edits: Sequence[Edit], others: Sequence[Edit]) -> Hook:
    """Moves along other latents' decoder rows, by the norm of the real edit at every token."""
    from ...sae.steering import matched_direction

    return matched_direction(sae, steering_hook(sae, edits), rows_of(others)[0])


def standard_hooks(arm: str, sae: SAE, asked: Asked, edits: Sequence[Edit], seed: int) -> Hooks:
    """The hooks of an arm that every run has."""
    from ...sae.steering import reconstruct

    if arm in (RECONSTRUCTION, RECONSTRUCTION_ERROR):
        return lambda rows: reconstruct(sae, error=arm == RECONSTRUCTION_ERROR)
    if arm.startswith(f"{RANDOM}_"):
        draw = int(arm.removeprefix(f"{RANDOM}_"))
        others = [
            random_edit(plan, edit, q.topic, draw, seed)
            for plan, q, edit in zip(asked.plans, asked.questions, edits, strict=True)
        ]
        return lambda rows: random_hook(sae, [edits[r] for r in rows], [others[r] for r in rows])
    preserving = arm != STEERED_REPLACE
    return lambda rows: steering_hook(sae, [edits[r] for r in rows], error_preserving=preserving)


def standard_arms(n_random: int) -> list[str]:
    """Arms that are run at each SAE whatever the options; `untouched` is run once, without any."""
    steered = [STEERED, STEERED_REPLACE, STEERED_GLOBAL]
    draws = [f"{RANDOM}_{draw:02d}" for draw in range(n_random)]
    return [RECONSTRUCTION, RECONSTRUCTION_ERROR, *steered, *draws]
