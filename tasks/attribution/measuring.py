"""A batch of questions through every order of latents, and single latents taken out exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .clean import Clean, kept_shares, random_importance, ranked
from .options import Options
from .scores import (
    LEAST_EFFECT,
    SHARES,
    agreement,
    completeness_error,
    curve_scores,
    faithfulness,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.attribution import Attribution

MAIN = "main"
"""A, from one forward and backward: supporters of the answer first."""
INTEGRATED = "integrated"
"""A by integrated gradients."""
GRADIENT = "gradient"
"""The gradient alone, without how strongly a latent fires."""
MAGNITUDE = "magnitude"
"""How strongly a latent fires, whatever it does."""
OTHER = "other_question"
"""A of another question."""
RANDOM = "random"
"""The mean of some random orders."""
ARMS = (MAIN, INTEGRATED, GRADIENT, MAGNITUDE, OTHER, RANDOM)
TESTED = (MAIN, INTEGRATED)
"""Arms that predict the size of an effect, not only an order."""
_DETAILED = 8
"""Single latents whose predicted and exact effect is stored."""


@dataclass(frozen=True)
class Scores:
    """Of one question under one arm."""

    scores: Mapping[str, float]
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Measuring:
    """One batch at one SAE; everything shared between arms is made once."""

    clean: Clean
    names: Sequence[str]
    """Of the questions: what random draws go by."""
    others: Callable[[], Attribution]
    """A of another question for each."""
    options: Options
    seed: int

    @cached_property
    def active(self) -> Tensor:
        return self.clean.active()

    @cached_property
    def full(self) -> Tensor:
        """`(batch,)`: m as it is."""
        return self.clean.margins(self.active)

    @cached_property
    def none(self) -> Tensor:
        """`(batch,)`: m without any latent."""
        return self.clean.margins(self.active & False)

    @cached_property
    def effect(self) -> Tensor:
        return self.full - self.none

    @cached_property
    def found(self) -> Attribution:
        from ...sae.attribution import attribute

        trained = self.clean.trained
        return attribute(self.clean.lmm, self.clean.batch, trained.hookpoint, trained.sae)

    @cached_property
    def integrated(self) -> Attribution:
        from ...sae.integrated import integrate

        clean, steps = self.clean, self.options.steps
        trained = clean.trained
        where = trained.hookpoint
        return integrate(clean.lmm, clean.batch, where, trained.sae, steps).attribution

    def run(self, arms: Collection[str]) -> dict[str, list[Scores]]:
        """Per arm one result a question."""
        return {arm: self._arm(arm) for arm in ARMS if arm in arms}

    def _arm(self, arm: str) -> list[Scores]:
        draws = self.options.random if arm == RANDOM else 1
        curves = [self._curves(self._importance(arm, draw)) for draw in range(draws)]
        rows = [self._row(row, curves) for row in range(len(self.names))]
        if arm in TESTED:
            singles = self._singles(self.clean.summed(self._predicted(arm).values))
            rows = [_with(row, *extra) for row, extra in zip(rows, singles, strict=True)]
        if arm == MAIN:
            extras = self._whole()
            rows = [_with(row, extra, {}) for row, extra in zip(rows, extras, strict=True)]
        return rows

    def _predicted(self, arm: str) -> Attribution:
        return self.integrated if arm == INTEGRATED else self.found

    def _importance(self, arm: str, draw: int) -> Tensor:
        """`(batch, n_latents)`: how early a latent comes in the arm's order."""
        if arm == RANDOM:
            names = [f"{self.seed}:{draw}:{name}" for name in self.names]
            return random_importance(names, self.active.shape[1], self.active)
        if arm == MAGNITUDE:
            return self.clean.summed(self.clean.latents.values)
        sign = self.effect.sign().to(self.active.device)[:, None]
        if arm == GRADIENT:
            return sign * self.clean.summed(self.found.gradients)
        return sign * (self.others() if arm == OTHER else self._predicted(arm)).per_latent()

    def _curves(self, importance: Tensor) -> tuple[list[list[float]], list[list[float]]]:
        """Margins along `SHARES`, question by question: kept alone, and taken away."""
        import torch

        ranks = ranked(importance, self.active)
        kept = [kept_shares(ranks, self.active, share) for share in SHARES[1:-1]]
        inside = [self.clean.margins(mask) for mask in kept]
        outside = [self.clean.margins(self.active & ~mask) for mask in kept]
        insertion = torch.stack([self.none, *inside, self.full], 1)
        deletion = torch.stack([self.full, *outside, self.none], 1)
        return insertion.tolist(), deletion.tolist()

    def _row(self, row: int, curves: Sequence[tuple[Any, Any]]) -> Scores:
        drawn = ([curve[side][row] for curve in curves] for side in (0, 1))
        none, scale = float(self.none[row]), self._scale(row)
        insertion, deletion = (faithfulness(_mean(rows), none, scale) for rows in drawn)
        detail = {"insertion": _short(insertion), "deletion": _short(deletion)}
        return Scores(curve_scores(insertion, deletion), detail)

    def _scale(self, row: int) -> float:
        """What shares are shares of; too little to be that is NaN, and its question unscorable."""
        effect = float(self.effect[row])
        return effect if abs(effect) >= LEAST_EFFECT else math.nan

    @cached_property
    def _chosen(self) -> Tensor:
        """`(batch, n)`: latents that are ablated one by one, -1 where there are no more. The same
        for all arms: the top by A, and random others.
        """
        import torch

        top = ranked(self.found.per_latent().abs(), self.active)
        names = [f"{self.seed}:single:{name}" for name in self.names]
        drawn = random_importance(names, self.active.shape[1], self.active)
        rest = ranked(drawn, self.active & (top >= self.options.n_top))
        n = self.options.n_top + self.options.n_random
        order = torch.where(top < self.options.n_top, top, self.options.n_top + rest)
        first = order.argsort(dim=1)[:, :n]
        return torch.where(self.active.gather(1, first), first, -1)

    @cached_property
    def _exact(self) -> Tensor:
        """`(batch, n)`: m with a latent minus m without it."""
        import torch

        columns = self._chosen.clamp_min(0).unbind(1)
        return torch.stack([self.full - self.clean.without(latents) for latents in columns], 1)

    def _singles(self, predicted: Tensor) -> list[tuple[dict[str, float], dict[str, Any]]]:
        found = []
        for row, total in enumerate(predicted.sum(1).tolist()):
            known = self._chosen[row] >= 0
            latents = self._chosen[row][known]
            a = predicted[row][latents].tolist()
            exact = self._exact[row][known.cpu()].tolist()
            missed = completeness_error(total, self._scale(row))
            scores = agreement(a, exact) | {"completeness_error": missed}
            triples = zip(latents.tolist(), _short(a), _short(exact), strict=True)
            found.append((scores, {"singles": [list(t) for t in triples][:_DETAILED]}))
        return found

    def _whole(self) -> list[dict[str, float]]:
        """What is said of a question once: error share, image share, the reconstruction alone."""
        from ...sae.tokens import token_mask

        found = self.found
        size = found.values.abs().sum((1, 2))
        error = found.error.sum(1).abs()
        image = token_mask(found.kinds, "image").to(found.values.device)
        seen = (found.values.abs().sum(2) * image).sum(1)
        alone = self.clean.margins(self.active, error=False)
        bare = self.clean.margins(self.active & False, error=False)
        columns = {
            "error_share": error / (error + size).clamp_min(1e-12),
            "image_share": seen / size.clamp_min(1e-12),
            "faithfulness_no_error": (alone - bare) / self.effect,
        }
        return [
            {name: float(column[row]) for name, column in columns.items()}
            for row in range(len(self.names))
        ]


def _with(row: Scores, scores: Mapping[str, float], detail: Mapping[str, Any]) -> Scores:
    return Scores({**row.scores, **scores}, {**row.detail, **detail})


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _short(values: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in values]
