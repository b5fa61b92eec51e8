"""Dev questions to search features on: which ones, and what attribution says of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arms import Activity
from .asking import Asker, Reply
from .options import Options
from .questions import Question

if TYPE_CHECKING:
    from torch import Tensor

    from ...harness.progress import Progress
    from ...sae.lmm import LMM, Batch
    from ...sae.topk import TrainedSae

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
        asked = asker.memory.over(
            dev, lambda some: [*zip(some, asker.untouched(some), strict=True)]
        )
        for replies in asked:
            for question, reply in replies:
                if reply.answer is not None:
                    by_topic.setdefault(question.topic, []).append(signed(question, reply))
            step.advance(len(replies))
    wrong = {topic: sum(item.wrong for item in items) for topic, items in by_topic.items()}
    topics = sorted(
        (t for t in wrong if wrong[t] >= options.min_wrong), key=lambda t: (-wrong[t], t)
    )
    each = min(options.dev_per_topic, max(_FEWEST, options.n_dev // max(1, len(topics))))
    taken = [item for topic in topics for item in _sample(by_topic[topic], each)]
    return taken[: options.n_dev]


def signed(question: Question, reply: Reply) -> Item:
    return Item(question, reply.margin if question.gt else -reply.margin)


def _sample(items: Sequence[Item], n: int) -> list[Item]:
    wrong, right = ([i for i in items if i.wrong == flag] for flag in (True, False))
    n_wrong = min(len(wrong), max(n // 2, n - len(right)))
    return [*wrong[:n_wrong], *right[: n - n_wrong]]


@dataclass(frozen=True)
class Evidence:
    """What features can be chosen from: one row a dev item, one column a latent."""

    active: Tensor
    """Whether it fires on the prompt."""
    strength: Tensor
    """Its values summed over the prompt's tokens."""
    n_tokens: Tensor
    """`(latents,)`: the tokens of all prompts that it fires on."""
    gain: Tensor | None
    """How much it supports the truth, to first order; None unless attribution was asked for."""

    @property
    def rates(self) -> Tensor:
        """`(latents,)`: the share of prompts that each fires on."""
        return self.active.sum(0, dtype=self.strength.dtype) / len(self.active)

    def activity(self, latents: Iterable[int]) -> dict[int, Activity]:
        rates = self.rates
        means = self.strength.sum(0) / self.n_tokens.clamp_min(1)
        return {j: Activity(float(rates[j]), float(means[j])) for j in latents}


def gather_evidence(
    asker: Asker,
    trained: TrainedSae,
    items: Sequence[Item],
    progress: Progress,
    *,
    attribution: bool,
) -> Evidence:
    """One forward a prompt; with attribution one backward more."""
    import torch

    def measure(some: Sequence[Question]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        batch = asker.batch(some)
        gain = _gain(asker.lmm, batch, trained, some) if attribution else None
        return *_activity(asker.lmm, batch, trained), gain

    parts = []
    what = "attribution" if attribution else "activations"
    questions = [item.question for item in items]
    with progress.step(f"halluc: {what} at {trained.hookpoint.name}", len(items)) as step:
        for part in asker.memory.over(questions, measure):
            parts.append(part)
            step.advance(len(part[0]))
    active, strength, n_tokens, gains = zip(*parts, strict=True)
    gain = torch.cat(gains) if attribution else None
    return Evidence(torch.cat(active), torch.cat(strength), torch.stack(n_tokens).sum(0), gain)


def _gain(lmm: LMM, batch: Batch, trained: TrainedSae, questions: Sequence[Question]) -> Tensor:
    import torch

    from ...sae.attribution import attribute

    found = attribute(lmm, batch, trained.hookpoint, trained.sae)
    sign = torch.tensor([[1.0 if q.gt else -1.0] for q in questions])
    return found.per_latent().cpu().float() * sign


def _activity(lmm: LMM, batch: Batch, trained: TrainedSae) -> tuple[Tensor, Tensor, Tensor]:
    """Whether each latent fires on each prompt, how strongly, and on how many tokens of all."""
    import torch

    from ...sae.encoding import encode_at
    from ...sae.residual import capture
    from ...sae.tokens import token_mask

    residual = capture(lmm, batch, [trained.hookpoint])[trained.hookpoint]
    latents = encode_at(trained.sae, residual, token_mask(batch.kinds, "all"))
    values = latents.values.cpu().float().flatten(1)
    places = latents.indices.cpu().long().flatten(1)
    shape = (len(batch), trained.sae.n_latents)
    strength = torch.zeros(shape).scatter_add_(1, places, values)
    n_tokens = torch.zeros(shape).scatter_add_(1, places, (values > 0).float())
    return n_tokens > 0, strength, n_tokens.sum(0)


def live_latents(rates: Tensor) -> tuple[int, ...]:
    """Latents that fire on at least one prompt in twenty: those a random control is drawn from."""
    return tuple(int(j) for j in (rates >= 0.05).nonzero()[:, 0].tolist())
