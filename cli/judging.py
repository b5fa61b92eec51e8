"""Options of a chat judge: where it is, how it is called, what it may cost."""

from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError
from ..harness.budget import Price
from ..harness.retry import Policy
from .options import FiniteRange, together

_DEFAULT = Policy()
_OPTIONS = (
    click.option(
        "--judge",
        metavar="REF",
        help="openai/MODEL, a URL[#model], hf:FOLDER|ID or replay:FILE.  "
        "[default: the testbed's labels]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 64),
        default=_DEFAULT.concurrency,
        show_default=True,
        help="Calls to the judge at once.",
    ),
    click.option(
        "--call-timeout",
        type=FiniteRange(0, min_open=True),
        default=_DEFAULT.timeout,
        show_default=True,
        metavar="S",
        help="Seconds of one attempt; with all its retries a call may take five times that.",
    ),
    click.option(
        "--cost-limit",
        type=FiniteRange(0, min_open=True),
        metavar="USD",
        help="Stop before the judge's calls cost more over the whole run; needs --judge-price.",
    ),
    click.option(
        "--judge-price",
        type=FiniteRange(0),
        nargs=2,
        metavar="IN OUT",
        help="US dollars a million tokens, for --cost-limit and for the estimate of --dry-run.",
    ),
    click.option(
        "--batch",
        is_flag=True,
        help="Ask through the provider's batch API: answered within a day, at half the price.",
    ),
    click.option(
        "--reply-cache/--no-reply-cache",
        default=True,
        show_default=True,
        help="Take the judge's replies to the same requests from earlier runs.",
    ),
)


judge_options = together(*_OPTIONS)
"""`--judge` and what belongs to it."""
CALLING = ("concurrency", "call_timeout", "cost_limit", "judge_price", "batch", "reply_cache")
"""Those that say how it is called."""


def calling(
    concurrency: int,
    call_timeout: float,
    cost_limit: float | None,
    judge_price: tuple[float, float] | None,
    *,
    batch: bool = False,
    reply_cache: bool = True,
) -> dict[str, Any]:
    """What `run` takes of them, `cost_limit` with its price. Raises `UsageError`."""
    policy = Policy(call_timeout, 5 * call_timeout, concurrency=concurrency)
    how = {"policy": policy, "cost_limit": None, "batch": batch, "reply_cache": reply_cache}
    if cost_limit is None:
        return how
    if judge_price is None:
        raise UsageError("--cost-limit needs --judge-price IN OUT: prices change, none is built in")
    return how | {"cost_limit": (cost_limit, Price(*judge_price))}
