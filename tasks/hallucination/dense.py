"""The dense baseline: the difference of mean residual streams of right and wrong dev answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arms import Edit, Plan, steering_hook
from .asking import Asker
from .dev import Item, signed

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.sae import TrainedSae
    from .questions import Question

EVERYTHING = "*"


@dataclass(frozen=True)
class DenseDirections:
    """Unit directions `(d_model,)` by topic; `*` is that of all topics."""

    by_topic: Mapping[str, Tensor]

    def of(self, topic: str) -> Tensor:
        return self.by_topic.get(topic, self.by_topic[EVERYTHING])


def dense_directions(
    asker: Asker, trained: TrainedSae, items: Sequence[Item], plan: Plan
) -> DenseDirections:
    """Right minus wrong, by topic; of both signs the one that mends more on the same dev items.

    Its strength is that of the plan's edit at every token, so both baselines move equally far.
    """
    means = _mean_streams(asker, trained, items)
    everything = _difference(means, items, range(len(items)))
    topics: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        topics.setdefault(item.question.topic, []).append(row)
    found = {EVERYTHING: everything}
    for topic, rows in topics.items():
        direction = _difference(means, items, rows)
        found[topic] = direction if bool(direction.any()) else everything
    signs = _signs(asker, trained, items, plan, found)
    return DenseDirections({topic: signs[topic] * d for topic, d in found.items()})


def _mean_streams(asker: Asker, trained: TrainedSae, items: Sequence[Item]) -> Tensor:
    """`(items, d_model)`: the residual stream averaged over the tokens that edits touch."""
    import torch

    from ...sae.residual import capture
    from ...sae.tokens import token_mask

    def mean(some: Sequence[Question]) -> Tensor:
        batch = asker.batch(some)
        x = capture(asker.lmm, batch, [trained.hookpoint])[trained.hookpoint].float()
        mask = token_mask(batch.kinds, "all").to(x.device)[..., None]
        return ((x * mask).sum(1) / mask.sum(1).clamp_min(1)).cpu()

    return torch.cat([*asker.memory.over([item.question for item in items], mean)])


def _difference(means: Tensor, items: Sequence[Item], rows: Sequence[int]) -> Tensor:
    """Zeros where all are right or all wrong."""
    import torch
    from torch.nn.functional import normalize

    wrong = [r for r in rows if items[r].wrong]
    right = [r for r in rows if not items[r].wrong]
    if not wrong or not right:
        return torch.zeros(means.shape[1])
    return normalize(means[right].mean(0) - means[wrong].mean(0), dim=0)


def _signs(
    asker: Asker,
    trained: TrainedSae,
    items: Sequence[Item],
    plan: Plan,
    directions: Mapping[str, Tensor],
) -> dict[str, float]:
    gains = {sign: _margins(asker, trained, items, plan, directions, sign) for sign in (1.0, -1.0)}
    totals: dict[str, dict[float, float]] = {}
    for sign, margins in gains.items():
        for item, margin in zip(items, margins, strict=True):
            for topic in (item.question.topic, EVERYTHING):
                of_topic = totals.setdefault(topic, {1.0: 0.0, -1.0: 0.0})
                of_topic[sign] += (margin > 0) - (not item.wrong)
    return {
        topic: max((1.0, -1.0), key=lambda sign: totals.get(topic, {}).get(sign, 0.0))
        for topic in directions
    }


def _margins(
    asker: Asker,
    trained: TrainedSae,
    items: Sequence[Item],
    plan: Plan,
    directions: Mapping[str, Tensor],
    sign: float,
) -> list[float]:
    """Signed margins of all items with every topic's direction taken `sign` times."""
    import torch

    from ...sae.displacement import as_far

    def ask(some: Sequence[Item]) -> list[float]:
        questions = [item.question for item in some]
        edits: list[Edit] = [plan.edit(q) for q in questions]
        along = torch.stack([sign * directions[q.topic] for q in questions])
        hook = as_far(steering_hook(trained.sae, edits), along.to(trained.sae.W_dec))
        replies = asker.ask(questions, {trained.hookpoint: hook})
        return [signed(q, r).margin for q, r in zip(questions, replies, strict=True)]

    return [margin for part in asker.memory.over(items, ask) for margin in part]
