"""What a ratings run says of its raters and its judge, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..harness.rundir import Run
from ..harness.task import TOO_FEW
from .answers import collected
from .rating_metrics import METRICS
from .rating_plots import more_ratings
from .rating_rows import GATE
from .table import MISSING, number

TASK = "ratings"
_GROUPS = {
    "People among themselves": (
        *("human_agreement", "human_alpha", "human_ac1", "human_kappa"),
        *("self_agreement", "attention"),
    ),
    "Judge and people": (
        *("agreement", "judge_alpha", "judge_ac1", "kappa"),
        *("judge_balanced", "judge_accepts", "judge_wrongly_accepts", "ceiling"),
    ),
    "People and judge together": ("consistent", "estimate", "estimate_j"),
}
_COLUMNS = ("metric", "of", "score", "95 % interval", "n", "note")
_NUMBERS = ("score", "95 % interval", "n")


@dataclass(frozen=True, slots=True)
class Table:
    """One table with its heading and what to know of it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[str]
    notes: Sequence[str] = ()


def agreement_tables(run: Run) -> Iterator[Table]:
    """Agreement of people, of judge and people, the shares, what more ratings would buy."""
    rows = _rows(run)
    for title, names in _GROUPS.items():
        cells = [_cells(row) for name in names for row in rows if row["metric"] == name]
        yield Table(title, _COLUMNS, cells, _NUMBERS, _notes(title))
    yield _more_people(run)


def agreement_json(run: Run) -> dict[str, Any]:
    """The same as JSON values."""
    return {"run": run.id, "metrics": _rows(run), "more_people": _widths(run)}


def _rows(run: Run) -> list[dict[str, Any]]:
    if TASK not in [task["name"] for task in run.tasks]:
        raise UsageError(f"{run.id} has no ratings; make such a run with `annotate import FILE...`")
    return [row for row in run.metrics if row["concept"] is None]


def _cells(row: Mapping[str, Any]) -> list[str]:
    titles = {metric.name: metric.title for metric in METRICS}
    note = "" if row["note"] in (None, TOO_FEW) else str(row["note"])
    few = row["note"] == TOO_FEW
    low, high = row["ci_low"], row["ci_high"]
    interval = MISSING if few or low is None else f"[{number(low)}, {number(high)}]"
    return [
        titles[row["metric"]],
        "" if row["arm"] == "main" else row["arm"],
        TOO_FEW if few else number(row["value"]),
        interval,
        f"{row['n_ok']}/{row['n_total']}",
        note,
    ]


def _notes(title: str) -> list[str]:
    if title != "Judge and people":
        return []
    return [
        f"The judge may stand alone where its α with people is at least {GATE:g} and not more than "
        ".1 below that of people; else report people, or both together."
    ]


def _more_people(run: Run) -> Table:
    rows = [
        (
            entry["of"],
            str(entry["n"]),
            f"±{number(entry['with_judge'])}",
            f"±{number(entry['alone'])}",
        )
        for entry in _widths(run)
    ]
    columns = ("of", "items rated", "with the judge", "people alone")
    return Table("What more ratings would buy (half of the 95 % interval)", columns, rows, columns)


def _widths(run: Run) -> list[dict[str, Any]]:
    return [*more_ratings(collected(run.lines(TASK)))]
