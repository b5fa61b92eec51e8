"""What decides an SAE's weights, beside the model and the prompts; and the presets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

from ..errors import UnknownNameError, UsageError
from .tokens import TokenSet

Adam = Literal["32bit", "8bit"]
Architecture = Literal["topk", "batch_topk", "matryoshka", "jump_relu", "gated"]
PENALISED = ("jump_relu", "gated")
"""Those whose L0 comes of a penalty. They have no AuxK."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, beside the model and the prompts."""

    architecture: Architecture = "topk"
    n_latents: int = 256
    k: int = 4
    """Latents a token: exactly, on average or aimed at, as the architecture says."""
    prefixes: tuple[int, ...] | None = None
    """Matryoshka: how many latents each dictionary has; None for n/16, n/8, n/4, n/2 and n."""
    penalty: float | None = None
    """JumpReLU, Gated: what L0 counts beside FVU; None for the usual."""
    tokens: TokenSet = "all"
    steps: int = 500
    batch_tokens: int = 2048
    """Of one step, over all devices."""
    accumulate: int = 1
    """In how many pieces a device takes its part of a batch. Changes memory, and weights by
    rounding only.
    """
    lr: float = 2e-3
    """For small dictionaries. On the testbed 4e-3 and 8e-3 lower FVU further, but their latents
    match its concepts less well.
    """
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises."""
    cooldown: float = 0.2
    """Share over which it falls at the end."""
    adam: Adam = "32bit"
    clip: float | None = None
    """The largest norm of one SAE's gradients together."""
    centre: Literal["mean", "median"] = "mean"
    """Where b_dec starts: the mean or the geometric median of the first batch."""
    auxk_alpha: float = 1 / 32
    dead_after: int = 100_000
    """Tokens without firing that make a latent dead."""
    seed: int = 0


class Choices(TypedDict, total=False):
    """What a caller may choose of a `Recipe` instead of the preset's; None keeps that."""

    architecture: Architecture | None
    n_latents: int | None
    k: int | None
    prefixes: Sequence[int] | None
    penalty: float | None
    tokens: TokenSet | None
    steps: int | None
    n_tokens: int | None
    """How many tokens each SAE sees, in place of `steps`."""
    batch_tokens: int | None
    accumulate: int | None
    lr: float | Literal["published"] | None
    adam: Adam | None
    seed: int | None


@dataclass(frozen=True)
class Preset:
    recipe: Recipe
    n_tokens: int
    published: bool
    """The learning rate follows the published rule: it rises over 1000 steps, then falls to 0."""


PRESETS: Mapping[str, Preset] = {
    "small": Preset(Recipe(), 1_000_000, published=False),
    # One pass over 779k samples of about 2560 tokens, 32 samples a step: the published batch counts
    # samples, ours tokens.
    "paper": Preset(
        Recipe(
            n_latents=2**17,
            k=256,
            batch_tokens=32 * 2560,
            accumulate=4,
            clip=1.0,
            centre="median",
            auxk_alpha=0.0,
            dead_after=10_000_000,
            seed=42,
        ),
        779_000 * 2560,
        published=True,
    ),
}
_PUBLISHED_WARMUP = 1000


def published_lr(n_latents: int) -> float:
    """The published rule: 2e-4 / sqrt(n_latents / 2^14)."""
    return 2e-4 / math.sqrt(n_latents / 2**14)


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe, without what its architecture has no use for."""
    told = asdict(recipe)
    if recipe.architecture != "matryoshka":
        del told["prefixes"]
    del told["auxk_alpha" if recipe.architecture in PENALISED else "penalty"]
    return told


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear rise, plateau, linear fall."""
    rise = (step + 1) / max(1.0, recipe.warmup * recipe.steps)
    fall = (recipe.steps - step) / max(1.0, recipe.cooldown * recipe.steps)
    return recipe.lr * min(1.0, rise, fall)


def recipe_for(preset: str, **chosen: Unpack[Choices]) -> Recipe:
    """A preset with what was chosen instead. Raises `UsageError` for an unknown preset and for
    impossible numbers.
    """
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, PRESETS)
    base = PRESETS[preset]
    named: dict[str, Any] = {name: v for name, v in chosen.items() if v is not None}
    steps, lr = named.pop("steps", None), named.pop("lr", None)
    n_tokens = named.pop("n_tokens", base.n_tokens)
    if "prefixes" in named:
        named["prefixes"] = tuple(named["prefixes"])
    recipe = replace(base.recipe, **named)
    _check(recipe, n_tokens, 1 if steps is None else steps)
    recipe = replace(recipe, steps=steps or math.ceil(n_tokens / recipe.batch_tokens))
    if base.published:
        warmup = min(1.0, _PUBLISHED_WARMUP / recipe.steps)
        recipe = replace(recipe, warmup=warmup, cooldown=1 - warmup)
    if lr == "published" or (lr is None and base.published):
        lr = published_lr(recipe.n_latents)
    return replace(recipe, lr=lr or recipe.lr)


def _check(recipe: Recipe, n_tokens: int, steps: int) -> None:
    counts = (steps, n_tokens, recipe.batch_tokens, recipe.n_latents, recipe.accumulate)
    if min(counts) < 1:
        raise UsageError(
            "steps, n_tokens, batch_tokens, n_latents and accumulate must be at least 1"
        )
    if not 1 <= recipe.k <= recipe.n_latents:
        raise UsageError(
            f"k is {recipe.k} but there are {recipe.n_latents} latents; choose k from 1 to "
            f"{recipe.n_latents}"
        )
    _check_options(recipe)


def _check_options(recipe: Recipe) -> None:
    """What only some architectures have."""
    if recipe.prefixes is not None:
        if recipe.architecture != "matryoshka":
            raise UsageError(f"prefixes are of matryoshka, not of {recipe.architecture}")
        sizes = (0, *recipe.prefixes)
        if sorted({*sizes}) != [*sizes] or sizes[-1] != recipe.n_latents:
            told = ", ".join(map(str, recipe.prefixes))
            raise UsageError(
                f"the prefixes {told} do not grow to all {recipe.n_latents} latents; end with "
                f"{recipe.n_latents}"
            )
    if recipe.penalty is not None and recipe.architecture not in PENALISED:
        raise UsageError(f"a penalty is of jump_relu and gated, not of {recipe.architecture}")
