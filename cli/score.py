"""`lmmsae-eval score RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ..errors import IncompleteError
from ..harness.progress import progress_for
from .find import find_run
from .options import json_option, print_json, progress_option, runs_option
from .scores import print_scores, select


@click.command("score")
@click.argument("ref", metavar="RUN")
@click.option(
    "--judge",
    metavar="REF",
    help="Ask this judge instead: labels (the testbed's), openai/MODEL, a URL[#model] or "
    "replay:FILE.  [default: nobody; metrics are made again]",
)
@progress_option
@runs_option
@json_option
def command(
    ref: str,
    judge: str | None,
    progress: Literal["auto", "rich", "plain", "none"],
    output_dir: Path,
    as_json: bool,
) -> None:
    """Score a complete run's stored outputs again, without its model, into a child run.

    The run itself is never written again. Typed again, it goes on with the child.
    """
    from ..tasks.rescoring import rescore, what_was_done

    run = find_run(ref, output_dir)
    child = rescore(run, judge, output_dir, progress_for(progress))
    done = what_was_done(run, child)
    if as_json:
        about = {"run_id": child.id, "path": str(child.path), "status": child.status}
        print_json({**about, "parent": run.id, "done": done, "metrics": select(child)})
    else:
        print_scores(child)
        for line in done:
            click.echo(line)
        click.echo(f"parent  {run.id}")
        click.echo(f"run     {child.path}")
    if child.status == "partial":
        raise IncompleteError(
            f"some samples broke, see `lmmsae-eval show {child.path} --failed`; "
            "the same command tries them again"
        )
