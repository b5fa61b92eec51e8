"""Options that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

RUNS = Path("runs")
SAES = Path("saes")
LEADERBOARD = Path("leaderboard")
BY = ("layer", "hookpoint", "sae", "concept", "arm", "task")
"""What a run's numbers are told apart by."""
_LONGEST_PATH = 255


class FiniteRange(click.FloatRange):
    """click's range lets NaN through, which no bound can refuse and every comparison denies."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


PROBABILITY = FiniteRange(0, 1, min_open=True, max_open=True)


def together(*options: Callable[[Any], Any]) -> Callable[[CommandT], CommandT]:
    """Several options as one decorator, in the order of `--help`."""
    return lambda command: reduce(lambda wrapped, option: option(wrapped), options[::-1], command)


def choice(*names: str, among: Sequence[str], help: str | None = None) -> Callable[[Any], Any]:
    """One of several words, the first by default."""
    kind = click.Choice(among)
    return click.option(*names, type=kind, default=among[0], show_default=True, help=help)


def probability(name: str, default: float, help: str) -> Callable[[Any], Any]:
    return click.option(name, type=PROBABILITY, default=default, show_default=True, help=help)


def taken(options: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A command's options of these names; they are gone from the others."""
    return {name: options.pop(name) for name in names}


def split_commas(
    _ctx: click.Context, _param: click.Parameter, values: Iterable[str]
) -> tuple[str, ...]:
    """`-t a,b -t c` is a, b, c; said twice is said once."""
    items = (item.strip() for value in values for item in value.split(","))
    return tuple(dict.fromkeys(item for item in items if item))


def split_layers(
    ctx: click.Context, param: click.Parameter, values: Iterable[str]
) -> tuple[str | int, ...]:
    """Bare numbers are the paper's, counted from 1; `model.layers.24` is counted from 0."""
    return tuple(int(i) if i.isdecimal() else i for i in split_commas(ctx, param, values))


def count_or_share(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> int | float | None:
    """`20` is a count, `0.1` a share."""
    if value is None:
        return None
    try:
        limit = int(value) if value.isdecimal() else float(value)
    except ValueError:
        limit = 0
    if not (limit >= 1 if isinstance(limit, int) else 0 < limit < 1):
        message = f"{value!r} is neither a count from 1 nor a share between 0 and 1"
        raise click.BadParameter(message, ctx, param)
    return limit


def sample_ids(
    ctx: click.Context, param: click.Parameter, values: Iterable[str]
) -> tuple[str, ...]:
    """`--samples a,b` or a file with an id a line."""
    found: list[str] = []
    for value in values:
        # The operating system refuses to look for a name as long as a list of ids.
        if len(value) < _LONGEST_PATH and Path(value).is_file():
            lines = Path(value).read_text(encoding="utf-8").splitlines()
            found += [line.strip() for line in lines if line.strip()]
        else:
            found += split_commas(ctx, param, [value])
    if tuple(values) and not found:
        raise click.BadParameter("no sample is named", ctx, param)
    return tuple(dict.fromkeys(found))


def model_option(command: CommandT, more: str = "") -> CommandT:
    return click.option(
        "-m",
        "--model",
        default="testbed",
        show_default=True,
        metavar="REF",
        help="The LMM: a folder, a hub id[@revision], testbed, testbed:planted." + more,
    )(command)


loading_options = together(
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="[default: float32 on a CPU, bfloat16 elsewhere]",
    ),
    click.option(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, or auto: spread over all.  [default: cuda if there is one]",
    ),
    click.option("--load-in", type=click.Choice(["4bit", "8bit"]), help="Needs bitsandbytes."),
    click.option(
        "--image-tokens",
        type=click.Choice(["all", "base", "tile", "squash"]),
        help="Which image tokens count: also those of tiles, the base grid's, the tiles', or "
        "the base grid's of a squashed picture, as in the paper.  [default: all]",
    ),
)
"""How a model's weights are loaded, for commands that load one."""


def loading_of(options: dict[str, Any]) -> dict[str, Any]:
    """What was said of them, taken out of a command's options."""
    said = taken(options, ("dtype", "device", "load_in", "image_tokens"))
    return {name: value for name, value in said.items() if value is not None}


def layers_option(command: CommandT) -> CommandT:
    return click.option(
        "-l",
        "--layers",
        multiple=True,
        callback=split_layers,
        metavar="LIST",
        help="8,25,32 (counted from 1) or model.layers.7 (from 0).  [default: three of the model]",
    )(command)


def seed_option(command: CommandT) -> CommandT:
    return click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="One seed for everything.",
    )(command)


progress_option = choice(
    "--progress",
    among=("auto", "rich", "plain", "none"),
    help="auto: bars in a terminal, plain lines elsewhere; always on stderr.",
)


def json_option(command: CommandT) -> CommandT:
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")(command)


def runs_option(command: CommandT, *short: str) -> CommandT:
    return click.option(
        *short,
        "--output-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=RUNS,
        show_default=True,
        help="Where the runs are.",
    )(command)


def output_option(command: CommandT) -> CommandT:
    """`-o` is where a command writes: the runs' folder only for `run` itself."""
    return runs_option(command, "-o")


def print_json(value: Any) -> None:
    click.echo(json_text(value))


def json_text(value: Any) -> str:
    """Stable: sorted keys, no NaN."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
