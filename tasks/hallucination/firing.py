"""Where latents fire in the figures of a question pair: what a card shows of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..features.cards import strip
from ..features.masks import outlined, shown_mask
from .questions import NO_FIGURE, Question, Record

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ...harness.task import Context
    from ...sae.lmm import Batch
    from ...sae.sae import TrainedSae
    from ..features.explain import Explanation
    from ..subject import Subject
    from .asking import Asker
    from .bench import Bench
    from .pictures import Features, Notes

MOST_ATTRIBUTED = 3
"""Latents shown where nothing was edited."""


@dataclass(frozen=True, slots=True)
class Fired:
    """One latent on the questions of a pair."""

    latent: int
    where: str
    """On how many tokens of the image and of the text, figure by figure."""
    maps: Image | None
    """The figures side by side, dimmed where it is silent; None where it is so in all of them."""


def fired(
    asker: Asker,
    trained: TrainedSae,
    pair: Sequence[Question],
    latents: Sequence[int],
    image_for: Callable[[Record], Image | None],
) -> list[Fired]:
    """What each of `latents` does while the untouched model reads the pair."""
    import torch

    from ...sae.residual import capture
    from ...sae.steering import present_values

    batch = asker.batch(pair)
    residual = capture(asker.lmm, batch, [trained.hookpoint])[trained.hookpoint]
    wanted = torch.tensor([list(latents)] * len(pair), device=residual.device)
    active = present_values(trained.sae.encode(residual), wanted).cpu() > 0
    figures = [image_for(question.record) for question in pair]
    return [
        Fired(latent, _where(pair, batch, active[..., i]), _maps(figures, batch, active[..., i]))
        for i, latent in enumerate(latents)
    ]


def most_attributed(asker: Asker, trained: TrainedSae, pair: Sequence[Question]) -> list[int]:
    """The latents that the answers of a pair hang on most, by absolute attribution."""
    from ...sae.attribution import attribute

    found = attribute(asker.lmm, asker.batch(pair), trained.hookpoint, trained.sae)
    size = found.per_latent().abs().sum(0)
    best = size.topk(min(MOST_ATTRIBUTED, len(size)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [latent for latent, amount in pairs if amount > 0]


def _where(pair: Sequence[Question], batch: Batch, active: Tensor) -> str:
    """`active` is `(questions, tokens)`."""
    from ...sae.tokens import token_mask

    parts = []
    for row, question in enumerate(pair):
        counts = []
        for kind in ("image", "text"):
            inside = token_mask(batch.kinds, kind).cpu()[row]
            if kind == "text" or question.record["visual_input"] != NO_FIGURE:
                counts.append(f"{int((active[row] & inside).sum())} of {int(inside.sum())} {kind}")
        parts.append(f"figure {question.record['figure_id']}: {', '.join(counts)} tokens")
    return "; ".join(parts)


def _maps(figures: Sequence[Image | None], batch: Batch, active: Tensor) -> Image | None:
    from ...sae.tokens import token_mask

    inside = token_mask(batch.kinds, "image").cpu()
    if not bool((active & inside).any()):
        return None
    pictures = []
    for row, figure in enumerate(figures):
        if figure is not None:
            tokens = active[row][inside[row]].nonzero()[:, 0].numpy()
            mask = shown_mask(batch.boxes[row].cpu().numpy(), tokens, figure.size)
            pictures.append(outlined(figure, mask & bool(len(tokens))))
    return strip(pictures)


def features_of(context: Context[Subject], bench: Bench) -> Features:
    """The edited latents of a pair's topic, with explanations where a task has made them already.

    Where nothing was edited, those that the answers hang on most.
    """
    from ..features.study import explanations_at_hand, latent_name

    explanations = explanations_at_hand(context)
    saes = {(sae.name, sae.hookpoint.name): sae for sae in context.subject.main_saes}

    def notes(sae: str, hookpoint: str, pair: Sequence[Question]) -> Notes:
        trained = saes[sae, hookpoint]
        edits = bench.asked(trained, pair).edits
        edited = list(dict.fromkeys(latent for edit in edits for latent in edit.latents))
        latents = edited or most_attributed(bench.asker, trained, pair)
        text: dict[str, str] = {}
        images: list[tuple[str, Image]] = []
        for one in fired(bench.asker, trained, pair, latents, bench.image_for):
            said = explanations.get(latent_name(trained, one.latent))
            called = _called(said, any_=bool(explanations))
            text[f"latent {one.latent}"] = f"{called}; {one.where}"
            if one.maps is not None:
                images.append((f"where latent {one.latent} fires ({called})", one.maps))
        return text, images

    return notes


def _called(said: Explanation | None, *, any_: bool) -> str:
    if said is not None:
        return said.label or f"no explanation: {said.reason}"
    return "not among the explained" if any_ else "not explained: no task here explains"
