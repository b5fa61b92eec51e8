"""The end of `run`: scores on stdout, the report beside the run, the run on the board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import IncompleteError, InvalidSubmissionError
from .options import print_json
from .scores import print_scores, select
from .table import print_table

if TYPE_CHECKING:
    from ..harness.rundir import Run
    from ..reports.spread import Spread

SPREAD = ("task", "layer", "metric", "mean", "sd between", "lowest", "highest", "±95 % within", "n")
NUMBERS = SPREAD[3:]


def publish(runs: Sequence[Run], leaderboard: Path, *, as_json: bool = False) -> None:
    """Raises `IncompleteError` when the last run is partial."""
    documents = [_published(run, leaderboard if i == 0 else None) for i, run in enumerate(runs)]
    if as_json:
        print_json({"runs": documents, "spread": [asdict(row) for row in _spread(runs)]})
    else:
        for run, document in zip(runs, documents, strict=True):
            _print(run, document)
        _print_spread(runs)
    if runs[-1].status == "partial":
        raise IncompleteError(
            f"{_broken(runs[-1])} samples broke, see `lmmsae-eval show {runs[-1].path} --failed`; "
            "the same command tries them again"
        )


def _published(run: Run, leaderboard: Path | None) -> dict[str, Any]:
    """Repeats but for the first stay off the board, which would show the luckiest of them."""
    from ..reports.html import write_report

    return {
        "run_id": run.id,
        "path": str(run.path),
        "status": run.status,
        "seed": run.document.get("seed"),
        "report": str(write_report(run)),
        "leaderboard": _submitted(run, leaderboard) if leaderboard else "not added: a repeat",
        "metrics": select(run),
    }


def _submitted(run: Run, leaderboard: Path) -> str:
    from ..leaderboards import build_site, submit

    try:
        submit(run, leaderboard)
        return str(build_site(leaderboard))
    except InvalidSubmissionError as error:
        # A board may refuse a run, limited ones for one; the run is as good as before.
        return f"not added: {error}"


def _print(run: Run, document: dict[str, Any]) -> None:
    print_scores(run)
    click.echo(f"run          {run.path}")
    click.echo(f"report       {document['report']}")
    click.echo(f"leaderboard  {document['leaderboard']}")


def _spread(runs: Sequence[Run]) -> list[Spread]:
    from ..reports.spread import spread

    return spread(runs) if len(runs) > 1 else []


def _print_spread(runs: Sequence[Run]) -> None:
    from ..reports.spread import SAME
    from ..reports.table import layer_text, number

    rows = _spread(runs)
    if not rows:
        return
    seeds = ", ".join(str(run.document.get("seed")) for run in runs)
    click.echo(f"\n{len(runs)} repeats, seeds {seeds}")
    print_table(
        (*SPREAD, "note"),
        [
            (
                *(row.task, layer_text(row.hookpoint, row.layer), row.metric),
                *(number(row.mean), number(row.sd), number(row.lowest), number(row.highest)),
                *(number(row.half_width), str(len(row.known)), SAME if row.same else ""),
            )
            for row in rows
        ],
        NUMBERS,
    )


def _broken(run: Run) -> int:
    return sum(int(counts["error"]) for counts in run.document["counts"].values())
