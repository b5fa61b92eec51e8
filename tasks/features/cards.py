"""Cards: what a reader sees of one latent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...harness.task import Card, Histogram, Line
from .masks import dimmed, outlined
from .study import cached_images, studies

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...harness.task import Context
    from ..subject import Subject
    from .foils import Item
    from .imageset import ImageSet
    from .masks import Mask
    from .study import CachedImages, Split, Study
    from .surveying import Survey

CARDS_PER_HOOKPOINT = 60
"""Items of a judge: people look at some. Features have a card each."""
NEIGHBOURS = 4
"""Latents named on a card: those whose decoder rows point most nearly the same way."""
SEEN, WHOLE = "what the judge saw", "the same pictures, whole"
SIDE = 336
"""Pixels of a picture's longer side on a card at most."""
_COLOURS = 96
"""Of a strip's palette: a third of the bytes, and no difference that an eye would mind."""


def feature_cards(lines: Sequence[Line], context: Context[Subject], rank_by: str) -> Iterator[Card]:
    """A card of every latent that has lines, the best by `rank_by` first."""
    by_latent: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["latent"] is not None:
            values = by_latent.setdefault(line["cluster"], {})
            shown = {f"{k} {line['arm']}": v for k, v in line["scores"].items()}
            values |= line["scores"] if line["arm"] == "main" else shown
    search = cached_images(context.subject.search)
    score = cached_images(context.subject.score)
    for study in studies(context):
        if study.arm == "main":
            named = {i: study.name(i) for i in study.explanations}
            scores = {i: by_latent[name] for i, name in named.items() if name in by_latent}
            near = _neighbours(study, list(scores))
            for latent in _ranked(scores, rank_by):
                card = _card(study, latent, scores[latent], search, score, context)
                card.related = near[latent]
                yield card


def _ranked(scores: Mapping[int, Mapping[str, float]], rank_by: str) -> list[int]:
    """Best first; latents without the score come last."""
    return sorted(scores, key=lambda i: (-scores[i].get(rank_by, -1.0), i))


def _neighbours(study: Study, latents: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    """Per latent (key, name) of those nearest by the cosine of decoder rows."""
    import torch

    rows = torch.nn.functional.normalize(study.sae.sae.W_dec.float(), dim=1)
    near = {}
    for latent in latents:
        cosines = rows @ rows[latent]
        cosines[latent] = -2.0
        best = cosines.topk(min(NEIGHBOURS, len(rows) - 1))
        near[latent] = [
            (study.name(i), _called(study, i, cosine))
            for i, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
    return near


def _called(study: Study, latent: int, cosine: float) -> str:
    said = study.explanations.get(latent)
    label = f" {said.label}" if said and said.label else ""
    return f"{latent}{label} {cosine:.2f}"


def _card(
    study: Study,
    latent: int,
    scores: Mapping[str, float],
    search: CachedImages,
    score: CachedImages,
    context: Context[Subject],
) -> Card:
    said = study.explanations[latent]
    subject = context.subject
    groups: list[tuple[str, Split, CachedImages, ImageSet]] = [
        ("exemplars (the explainer saw these)", "search", search, subject.search),
        ("held out, top", "top", score, subject.score),
    ]
    strips = [
        (caption, strip(_pictures(study.masked(latent, split, shown.size_of), images)))
        for caption, split, images, shown in groups
    ]
    return Card(
        title=f"{study.sae.hookpoint.name} latent {latent}",
        key=study.name(latent),
        text={"explanation": said.label or f"none: {said.reason}", **_firing(study, latent)},
        scores=dict(scores),
        images=[(caption, picture) for caption, picture in strips if picture],
        tags={
            "concept": said.concept or "none",
            "hookpoint": study.sae.hookpoint.name,
            "sae": study.sae.name,
        },
        histogram=_histogram(study.search, latent),
    )


def _histogram(survey: Survey, latent: int) -> Histogram | None:
    edges, counts = survey.strengths.of(latent)
    if not counts:
        return None
    return Histogram(f"activation on the {sum(counts):,} image tokens it fires on", edges, counts)


def item_cards(
    lines: Sequence[Line], asked: Mapping[str, Item], shown: ImageSet, context: Context[Subject]
) -> Iterator[Card]:
    """What the judge was shown, for people to judge too: a random share of each hookpoint's items.

    `title` and `text` don't tell a foil from a true item; `tags` do.
    """
    images = cached_images(shown)
    left: dict[tuple[str, str], int] = {}
    for line in lines:
        item = asked.get(line["id"])
        where = (line["sae"], line["hookpoint"])
        if item is None or not item.explanation or left.get(where, 0) >= CARDS_PER_HOOKPOINT:
            continue
        pairs = list(item.pictures(shown.size_of, context.seed))
        picture = strip([dimmed(images(index), lit) for index, lit in pairs])
        whole = strip([images(index).convert("RGB") for index, _ in pairs])
        if picture and whole:
            left[where] = left.get(where, 0) + 1
            yield Card(
                title=f"{line['hookpoint']} latent {line['latent']}",
                text={"explanation": item.explanation},
                scores=dict(line["scores"]),
                images=[(SEEN, picture), (WHOLE, whole)],
                tags={
                    "concept": line["concept"] or "none",
                    "hookpoint": line["hookpoint"],
                    "sae": line["sae"],
                    "item": item.kind,
                },
                sample=line["id"],
            )


def _firing(study: Study, latent: int) -> dict[str, str]:
    rate = study.search.rate[latent]
    images = study.search.fired_images[latent]
    dense = " (dense)" if latent in study.census.dense else ""
    return {"fires on": f"{images} of {study.search.n_images} images, {rate:.2%} of tokens{dense}"}


def _pictures(pairs: Iterable[tuple[int, Mask]], images: CachedImages) -> list[Image]:
    return [outlined(images(index), mask) for index, mask in pairs]


def strip(pictures: Sequence[Image], gap: int = 4) -> Image | None:
    """Pictures side by side on white, in a small palette, those of a camera made smaller; None when
    there are none.
    """
    from PIL import Image

    if not pictures:
        return None
    pictures = [_at_most(picture, SIDE) for picture in pictures]
    width = sum(p.width for p in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(p.height for p in pictures)), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet.quantize(_COLOURS)


def _at_most(picture: Image, side: int) -> Image:
    if max(picture.size) <= side:
        return picture
    smaller = picture.copy()
    smaller.thumbnail((side, side))
    return smaller
