"""`lmmsae-eval train`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import UsageError
from ..harness.progress import progress_for
from .options import SAES, layers_option, model_option, progress_option, seed_option

if TYPE_CHECKING:
    from ..sae.lmm import Prompt

TESTBED_PROMPTS = 2000


@click.command("train")
@model_option
@layers_option
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="A folder of pictures.  [default: the testbed's]",
)
@click.option("--n-latents", type=click.IntRange(min=2), default=256, show_default=True)
@click.option("--k", type=click.IntRange(min=1), default=4, show_default=True)
@click.option(
    "--tokens",
    type=click.Choice(["all", "image", "text"]),
    default="all",
    show_default=True,
    help="Which positions are learned from.",
)
@click.option(
    "--n-tokens",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="How many tokens each SAE sees.",
)
@seed_option
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
    images: Path | None,
    n_latents: int,
    k: int,
    tokens: Literal["all", "image", "text"],
    n_tokens: int,
    seed: int,
    out: Path,
    progress: Literal["auto", "rich", "plain", "none"],
) -> None:
    """Train TopK SAEs on layers of a model, all from one forward, with the built-in trainer."""
    prompts = _prompts(model, images, seed)
    shown = progress_for(progress)
    shown.say(f"{model}: loading")
    from ..sae.load import load_lmm
    from ..sae.train import train

    lmm = load_lmm(model)
    folders = train(
        lmm,
        prompts,
        [lmm.hookpoint(layer) for layer in layers or _testbed(model).default_hookpoints],
        out=out,
        n_latents=n_latents,
        k=k,
        tokens=tokens,
        n_tokens=n_tokens,
        seed=seed,
        progress=shown,
    )
    for folder in folders:
        click.echo(folder)


def _prompts(model: str, images: Path | None, seed: int) -> Iterable[Prompt]:
    if images is not None:
        from ..sae.images import ImageFolder

        return ImageFolder(images)
    # A list, so that the trainer can go through it again.
    return list(_testbed(model).sae_training_prompts(TESTBED_PROMPTS, seed))


def _testbed(model: str) -> Any:
    from ..harness.registry import TESTBEDS

    if model not in TESTBEDS.names():
        raise UsageError(
            f"only a testbed brings images and layers; give --images and --layers for {model}"
        )
    return TESTBEDS.get(model)()
