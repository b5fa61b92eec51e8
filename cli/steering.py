"""Options of `run` for halluc: which questions, what proposes features, which controls."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from ..errors import UsageError
from .options import choice, taken, together

_DEFAULTS = {"controls": "standard", "strategy": "attribution", "folds": 1}

steering_options = together(
    click.option(
        "--questions",
        metavar="REF",
        help="For halluc: hallusionbench, pope, amber (see `lmmsae-eval data`), or a JSON file in "
        "the HallusionBench schema.  [default: the testbed's]",
    ),
    click.option(
        "--images",
        metavar="PATH",
        help="The images of --questions: a folder, or a zip or tar archive.",
    ),
    choice(
        "--controls",
        among=("standard", "all"),
        help="For halluc: all adds matched latents, doses, token sets, a dense vector, a prompt, "
        "VCD.",
    ),
    choice(
        "--strategy",
        among=("attribution", "ssl", "save", "probe"),
        help="For halluc: what proposes features on the dev questions.",
    ),
    click.option(
        "--folds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="For halluc: from 2 on, cross-fitting; every family is tested with the others' "
        "choice.",
    ),
)


def steering_params(options: dict[str, Any], tasks: Collection[str]) -> dict[str, dict[str, Any]]:
    """What differs from the defaults, which make no other run; taken out of `options`."""
    chosen = taken(options, _DEFAULTS)
    changed = {name: value for name, value in chosen.items() if value != _DEFAULTS[name]}
    if changed and "halluc" not in tasks:
        raise UsageError(f"--{min(changed)} is for the task halluc; add it to --tasks")
    return {"halluc": changed} if changed else {}
