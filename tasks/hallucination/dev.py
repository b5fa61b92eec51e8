"""Dev questions to search features on: which ones, and what attribution says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .asking import Asker, Reply
from .options import Options
from .questions import Question

if TYPE_CHECKING:
    from torch import Tensor

    from ...harness.progress import Progress
    from ...sae.lmm import LMM, Batch
    from ...sae.topk import TrainedSae

CHUNK = 64
_FEWEST = 20
"""Items of a topic, even when there are many topics."""


@dataclass(frozen=True, slots=True)
class Item:
    question: Question
    margin: float
    """Signed towards the truth."""

    @property
    def wrong(self) -> bool:
        return self.margin < 0


def working_items(
    asker: Asker, dev: Sequence[Question], options: Options, progress: Progress
) -> list[Item]:
    """Dev items of the topics with most wrong answers, up to half of them wrong ones."""
    by_topic: dict[str, list[Item]] = {}
    with progress.step("halluc: dev questions", len(dev)) as step:
        for chunk in chunks(dev):
            for question, reply in zip(chunk, asker.untouched(chunk), strict=True):
                if reply.answer is not None:
                    by_topic.setdefault(question.topic, []).append(signed(question, reply))
            step.advance(len(chunk))
    wrong = {topic: sum(item.wrong for item in items) for topic, items in by_topic.items()}
    topics = sorted(
        (t for t in wrong if wrong[t] >= options.min_wrong), key=lambda t: (-wrong[t], t)
    )
    each = min(options.dev_per_topic, max(_FEWEST, options.n_dev // max(1, len(topics))))
    taken = [item for topic in topics for item in _sample(by_topic[topic], each)]
    return taken[: options.n_dev]


def chunks(questions: Sequence[Question], size: int = CHUNK) -> list[Sequence[Question]]:
    return [questions[start : start + size] for start in range(0, len(questions), size)]


def signed(question: Question, reply: Reply) -> Item:
    return Item(question, reply.margin if question.gt else -reply.margin)


def _sample(items: Sequence[Item], n: int) -> list[Item]:
    wrong, right = ([i for i in items if i.wrong == flag] for flag in (True, False))
    n_wrong = min(len(wrong), max(n // 2, n - len(right)))
    return [*wrong[:n_wrong], *right[: n - n_wrong]]


def attribute_items(
    asker: Asker, trained: TrainedSae, items: Sequence[Item], progress: Progress
) -> tuple[Tensor, Tensor]:
    """Support for the truth `(items, latents)`, and on what share of prompts each latent fires."""
    import torch

    from ...sae.attribution import attribute

    gains, fires = [], torch.zeros(trained.sae.n_latents)
    questions = [item.question for item in items]
    with progress.step(f"halluc: attribution at {trained.hookpoint.name}", len(items)) as step:
        for chunk in chunks(questions):
            batch = asker.batch(chunk)
            found = attribute(asker.lmm, batch, trained.hookpoint, trained.sae)
            sign = torch.tensor([[1.0 if q.gt else -1.0] for q in chunk])
            gains.append(found.per_latent().cpu().float() * sign)
            fires += _firing(asker.lmm, batch, trained)
            step.advance(len(chunk))
    return torch.cat(gains), fires / len(items)


def _firing(lmm: LMM, batch: Batch, trained: TrainedSae) -> Tensor:
    """`(latents,)`: on how many prompts each fires, whether or not it has an effect."""
    import torch

    from ...sae.residual import capture
    from ...sae.tokens import token_mask

    residual = capture(lmm, batch, [trained.hookpoint])[trained.hookpoint]
    indices, values = trained.sae.encode(residual)
    active = (values > 0) & token_mask(batch.kinds, "all").to(values.device)[..., None]
    fires = torch.zeros(len(batch), trained.sae.n_latents, dtype=torch.bool)
    rows = active.nonzero()[:, 0].cpu()
    fires[rows, indices[active].long().cpu()] = True
    return fires.sum(0)


def live_latents(rates: Tensor) -> tuple[int, ...]:
    """Latents that fire on at least one prompt in twenty: those a random control is drawn from."""
    return tuple(int(j) for j in (rates >= 0.05).nonzero()[:, 0].tolist())
