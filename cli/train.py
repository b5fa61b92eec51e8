"""`lmmsae-eval train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import UsageError
from ..harness.progress import progress_for
from .options import (
    SAES,
    choice,
    layers_option,
    loading_of,
    loading_options,
    model_option,
    progress_option,
)

if TYPE_CHECKING:
    from ..sae.distributed import Ranks
    from ..sae.lmm import Prompt

TESTBED_PROMPTS = 2000
DATASET = "dataset:"


def _rate(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | Literal["published"] | None:
    """A number, or `published`."""
    if value is None:
        return None
    if value == "published":
        return "published"
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        message = f"{value!r} is neither a number between 0 and 1 nor 'published'"
        raise click.BadParameter(message, ctx, param)
    return rate


def _sizes(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers with commas between."""
    try:
        return None if value is None else tuple(int(size) for size in value.split(","))
    except ValueError:
        message = f"{value!r} is no list of whole numbers such as 16,64,256"
        raise click.BadParameter(message, ctx, param) from None


@click.command("train")
@model_option
@loading_options
@layers_option
@click.option(
    "--images",
    metavar="DIR|dataset:REF",
    help="A folder of pictures, or dataset:owner/name[@revision][:split].  [default: the "
    "testbed's]",
)
@choice(
    "--preset",
    among=("small", "paper"),
    help="paper: every published hyper-parameter, for a GPU. Other options change single ones.",
)
@click.option(
    "--architecture",
    type=click.Choice(["topk", "batch_topk", "matryoshka", "jump_relu", "gated"]),
    help="Which latents fire.  [default: topk]",
)
@click.option("--n-latents", type=click.IntRange(min=2), help="[default: 256]")
@click.option(
    "--k",
    type=click.IntRange(min=1),
    help="Latents a token; batch_topk and matryoshka: on average; jump_relu and gated: the L0 "
    "that is aimed at.  [default: 4]",
)
@click.option(
    "--prefixes",
    callback=_sizes,
    metavar="N,N,...",
    help="matryoshka: how many latents each dictionary has, growing to all.  "
    "[default: n/16, n/8, n/4, n/2, n]",
)
@click.option(
    "--penalty",
    type=click.FloatRange(min=0, min_open=True),
    metavar="WEIGHT",
    help="jump_relu and gated: what L0 counts beside FVU.  [default: 1 and 0.3]",
)
@click.option(
    "--tokens",
    type=click.Choice(["all", "image", "text"]),
    help="Which positions are learned from.  [default: all]",
)
@click.option(
    "--n-tokens",
    type=click.IntRange(min=1),
    help="How many tokens each SAE sees.  [default: 1000000]",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Tokens of one step, over all devices.  [default: 2048]",
)
@click.option(
    "--accumulate",
    type=click.IntRange(min=1),
    metavar="N",
    help="Take each batch in N pieces, for less memory.  [default: 1]",
)
@click.option(
    "--lr",
    callback=_rate,
    metavar="RATE",
    help="A number, or published: 2e-4/sqrt(n/2^14).  [default: 0.002]",
)
@click.option(
    "--adam",
    type=click.Choice(["32bit", "8bit"]),
    help="8bit needs bitsandbytes.  [default: 32bit]",
)
@click.option("--seed", type=click.IntRange(min=0), help="One seed for everything.  [default: 0]")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep activations here; further SAEs are trained from them without the model.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="[default: about each minute]",
)
@click.option(
    "--log", type=click.Choice(["wandb", "tensorboard"]), help="Send the metrics there too."
)
@choice(
    "--distribute",
    among=("data", "layers", "latents"),
    help="Under torchrun: what the processes share out.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=SAES,
    show_default=True,
    help="One folder per layer goes here.",
)
@progress_option
def command(
    model: str,
    layers: tuple[str | int, ...],
    images: str | None,
    seed: int | None,
    progress: Literal["auto", "rich", "plain", "none"],
    **options: Any,
) -> None:
    """Train SAEs on layers of a model, all from one forward, with the built-in trainer.

    Killed and typed again it goes on where it was. Started by torchrun, its processes train
    together.
    """
    loading = loading_of(options)
    prompts, data = _prompts(model, images, seed or 0)
    from ..sae.distributed import joined

    with joined() as ranks:
        options |= {"data": data, "seed": seed}
        folders = _train(model, layers, prompts, ranks, progress, options, loading)
        for folder in folders if ranks.rank == 0 else ():
            click.echo(folder)


def _train(
    model: str,
    layers: tuple[str | int, ...],
    prompts: Sequence[Prompt],
    ranks: Ranks,
    progress: Literal["auto", "rich", "plain", "none"],
    options: dict[str, Any],
    loading: dict[str, Any],
) -> list[Path]:
    shown = progress_for(progress if ranks.rank == 0 else "none")
    shown.say(f"{model}: loading")
    from ..sae.load import load_lmm
    from ..sae.train import train

    lmm = load_lmm(model, **loading)
    hookpoints = [lmm.hookpoint(layer) for layer in layers or _testbed(model).default_hookpoints]
    return train(lmm, prompts, hookpoints, ranks=ranks, progress=shown, **options)


def _prompts(model: str, images: str | None, seed: int) -> tuple[Sequence[Prompt], str]:
    """And a name for them, by which an unfinished training or a cache knows its own."""
    if images is None:
        testbed = _testbed(model)
        prompts = list(testbed.sae_training_prompts(TESTBED_PROMPTS, seed))
        return prompts, f"{model} {testbed.revision} {TESTBED_PROMPTS} {seed}"
    if images.startswith(DATASET):
        from ..sae.dataset import ImageDataset

        dataset = ImageDataset(images.removeprefix(DATASET))
        return dataset, dataset.identity
    from ..sae.images import ImageFolder

    folder = ImageFolder(Path(images))
    return folder, folder.identity


def _testbed(model: str) -> Any:
    from ..harness.registry import TESTBEDS

    if model not in TESTBEDS.names():
        raise UsageError(
            f"only a testbed brings images and layers; give --images and --layers for {model}"
        )
    return TESTBEDS.get(model)()
