"""`lmmsae-eval testbed build`: from drawn pictures to shipped weights, on two CPU cores."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .world.scene import Rates

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPVisionModel, LlavaForConditionalGeneration

    from .recipe.pictures import Pictures


GAZE = 0.3
"""Weight of the term that teaches the word for a thing to look at it, beside the answers' loss."""
CONTRARY_RATES = Rates(expected=0.5, denied=0.5, other=0.25)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the language model; its learning rate would reach nothing at step `horizon`."""

    steps: int
    horizon: int
    gaze: float = 0.0
    lr: float = 2e-3


@dataclass(frozen=True, slots=True)
class Recipe:
    """Fixed step counts and seeds: the same weights on the same CPU and thread count.

    Tower and language model take turns. Behind a first tower, which sees colours and hardly any
    objects, the model learns to read colours (behind the finished one it is late to); the tower
    then learns shapes, which count double; the model learns to read them, and to look at what it
    is asked about.

    The last turn sets how often priors win: on pictures in which they are wrong half of the time,
    the best answer follows their strength. What is denied in one scene is often in others there,
    so that the denial stays in its own.
    """

    pictures: int = 24_000
    vision_steps: int = 1_800
    align_steps: int = 500
    first_turn: Turn = Turn(1_200, 2_400)
    second_vision_steps: int = 2_400
    second_turn: Turn = Turn(1_200, 2_200)
    looking_turn: Turn = Turn(1_300, 1_300, gaze=GAZE)
    contrary_pictures: int = 8_000
    contrary_turn: Turn = Turn(500, 500, gaze=GAZE, lr=1.2e-3)
    clip_steps: int = 450
    seed: int = 0
    threads: int = 2


class Says(Protocol):
    """Told, now and then, how far a stage is."""

    def __call__(self, stage: str, step: int, steps: int, loss: float) -> None: ...


def _quiet(stage: str, step: int, steps: int, loss: float) -> None:
    return None


def build(
    out: Path, recipe: Recipe | None = None, said: Says = _quiet, exam_pictures: int = 500
) -> dict[str, object]:
    """Train all models of the testbed into `out/lmm` and `out/clip`; returns the card's figures.

    The folders appear only when whole: a build that is stopped leaves what was there before.
    """
    from .recipe.assembly import new_processor
    from .recipe.clip import new_clip_processor
    from .recipe.open_clip import save_for_open_clip
    from .recipe.pictures import draw_random

    recipe = recipe or Recipe()
    start = time.monotonic()
    with repeatable(recipe.threads):
        pictures = draw_random(recipe.pictures, seed=recipe.seed + 11)
        tower, lmm = _lmm(recipe, pictures, said)
        clip = _clip(recipe, tower, pictures, said)
    minutes = (time.monotonic() - start) / 60
    card = {
        "recipe": asdict(recipe),
        "minutes": round(minutes, 1),
        **examine(lmm, clip, exam_pictures),
    }
    _save(out / "lmm", lmm, new_processor())
    _save(out / "clip", clip, new_clip_processor(), save_for_open_clip)
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    return card


@contextmanager
def repeatable(threads: int) -> Iterator[None]:
    """On so many threads, gradients are the same bit for bit each time.

    Without torch's deterministic algorithms, threads add the gradients of a row that is read more
    than once in whichever order they come to it; the gaze term reads a picture's keys so.
    """
    import torch

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def _stage(said: Says, stage: str, steps: int) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if not math.isnan(loss) or step + 1 == steps:
            said(stage, step + 1, steps, loss)

    return report


def _lmm(
    recipe: Recipe, pictures: Pictures, said: Says
) -> tuple[CLIPVisionModel, LlavaForConditionalGeneration]:
    import torch

    from .recipe.alignment import align_projector
    from .recipe.assembly import new_lmm
    from .recipe.pictures import draw_random
    from .recipe.vision import new_head, new_tower, train_tower

    seed, steps = recipe.seed, recipe.vision_steps
    torch.manual_seed(seed)
    tower, head = new_tower(), new_head()
    train_tower(tower, head, pictures, steps, seed, said=_stage(said, "vision", steps))
    lmm = new_lmm(tower, seed)
    align_projector(lmm, pictures, recipe.align_steps, seed)
    _take(recipe.first_turn, lmm, pictures, seed, _stage(said, "reading", recipe.first_turn.steps))

    steps = recipe.second_vision_steps
    report = _stage(said, "vision: shapes", steps)
    train_tower(tower, head, pictures, steps, seed + 1, lr=1.5e-3, shapes=2.0, said=report)
    lmm.model.vision_tower.load_state_dict(tower.state_dict())
    contrary = draw_random(recipe.contrary_pictures, seed=seed + 12, rates=CONTRARY_RATES)
    for number, (name, turn, shown) in enumerate(
        (
            ("reading again", recipe.second_turn, pictures),
            ("looking", recipe.looking_turn, pictures),
            ("contrary pictures", recipe.contrary_turn, contrary),
        ),
        start=1,
    ):
        _take(turn, lmm, shown, seed + number, _stage(said, name, turn.steps))
    return tower, lmm


def _take(
    turn: Turn,
    lmm: LlavaForConditionalGeneration,
    pictures: Pictures,
    seed: int,
    said: Callable[[int, float], None],
) -> None:
    from .recipe.language import train_language

    train_language(
        lmm,
        pictures,
        turn.steps,
        seed,
        lr=turn.lr,
        horizon=turn.horizon,
        gaze=turn.gaze,
        said=said,
    )


def _clip(recipe: Recipe, tower: CLIPVisionModel, pictures: Pictures, said: Says) -> CLIPModel:
    from .recipe.clip import new_clip, train_clip

    steps = recipe.clip_steps
    model = new_clip(tower, recipe.seed)
    return train_clip(model, pictures, steps, recipe.seed, said=_stage(said, "clip", steps))


def examine(
    lmm: LlavaForConditionalGeneration, clip: CLIPModel, n: int = 500, seed: int = 77
) -> dict[str, object]:
    """Held-out figures: what the models can do and where the priors lead the LMM astray."""
    from .recipe.clip import label_auroc, recall_at_1
    from .recipe.exam import accuracy, naming, prior_items, prior_report
    from .recipe.pictures import draw_random

    pictures = draw_random(n, seed=seed)
    figures: dict[str, dict[str, float]] = {
        "accuracy": accuracy(lmm, pictures, seed),
        "naming": naming(lmm, pictures, seed),
        "priors": prior_report(prior_items(lmm, max(2, n // 10), seed)),
        "clip": {"recall at 1 of 100": recall_at_1(clip, pictures), **label_auroc(clip, pictures)},
    }
    return {
        group: {name: round(value, 4) for name, value in values.items()}
        for group, values in figures.items()
    }


def _save(
    folder: Path,
    model: object,
    processor: object,
    more: Callable[..., None] = lambda model, folder: None,
) -> None:
    half = folder.with_name(folder.name + ".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    model.save_pretrained(half)  # type: ignore[attr-defined]
    processor.save_pretrained(half)  # type: ignore[attr-defined]
    more(model, half)
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)
