"""Options of feature tasks: how exemplars are found, who explains, who shortens, who sorts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_CHAT = "openai/MODEL, a URL[#model] or replay:FILE"
_FILE = click.Path(path_type=Path, exists=True)


def explaining_options(command: CommandT) -> CommandT:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--pooling",
        type=click.Choice(["mean", "max", "p99"]),
        default="mean",
        show_default=True,
        help="How strongly a latent fires on an image, over its tokens. The paper's is the mean.",
    ),
    click.option(
        "--near-duplicates",
        type=click.IntRange(0, 32),
        metavar="BITS",
        help="Leave out images whose 64-bit hash is this near to another's.  [default: keep all]",
    ),
    click.option(
        "--clip",
        metavar="REF",
        help="A transformers CLIP, folder or hub id, or open_clip:NAME/PRETRAINED.  "
        "[default: the testbed's]",
    ),
    click.option(
        "--explainer",
        metavar="REF",
        help=f"Who explains: {_CHAT}; hf:REF, another LMM; soft-wpmi, labels by CLIP alone.  "
        "[default: the LMM under study]",
    ),
    click.option(
        "--refiner",
        metavar="REF",
        help=f"Who shortens explanations: {_CHAT}.  [default: a chat explainer itself]",
    ),
    click.option(
        "--labeller",
        metavar="REF",
        help=f"Who sorts labels into the six concepts: {_CHAT}.  [default: as --refiner]",
    ),
    click.option(
        "--second-labeller",
        metavar="REF",
        help="Sorts them again: Cohen's kappa of the two is reported.",
    ),
    click.option(
        "--prompt-file",
        type=_FILE,
        help='Your own prompts: a JSON object of "explainer", "refiner" and "labeller".',
    ),
    click.option(
        "--explanations",
        type=_FILE,
        help="Explanations from a file or folder, in the released code's JSON; nobody is asked.",
    ),
)
