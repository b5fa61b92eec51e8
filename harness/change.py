"""How far the numbers of a run have moved from a baseline's, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

from .difference import Change, Scores, changes
from .snapshot import Item, Snapshot
from .task import TOO_FEW

Row = Mapping[str, Any]
_Z95 = 1.959963984540054


def moves(before: Snapshot, now: Snapshot, rows: Sequence[tuple[Row, Row]]) -> list[Change]:
    """The change of each pair of rows (before, now), all of which have values.

    Where a number is the mean of its samples' scores, the samples are tested, see `difference`. Any
    other is tested by the two stored 95 % intervals as if the runs were independent: too careful
    for paired ones. There is no test where a side has too few clusters or is the only one with an
    interval; where neither side has one, p is 0 for any move: nothing speaks for chance.
    """
    sampled = [(_scores(before, a), _scores(now, b)) for a, b in rows]
    cells = [(a, b) for a, b in sampled if a is not None and b is not None]
    tested = iter(changes(cells) if cells else ())
    return [
        by_intervals(*pair) if None in scores else next(tested)
        for pair, scores in zip(rows, sampled, strict=True)
    ]


def _scores(of: Snapshot, row: Row) -> Scores | None:
    """The samples that the row's value is the plain mean of; None where it is something else."""
    metric = row["metric"]
    items = [i for i in of.samples.get(row["task"], ()) if metric in i.scores and _within(i, row)]
    values = [float(item.scores[metric]) for item in items]
    if not values or not isclose(sum(values) / len(values), row["value"], abs_tol=1e-9):
        return None
    return Scores(of.item_keys(items), [item.cluster for item in items], values)


def _within(item: Item, row: Row) -> bool:
    return row["sae"] in (None, item.sae) and row["hookpoint"] in (None, item.hookpoint)


def by_intervals(before: Row, now: Row) -> Change:
    """The change of one metric row by its two stored intervals, see `moves`."""
    a, b = float(before["value"]), float(now["value"])
    errors = [_standard_error(row) for row in (before, now)]
    error = None if None in errors else sum(e**2 for e in errors if e is not None) ** 0.5
    testable = errors.count(None) != 1 and not any(map(_insufficient, (before, now)))
    higher, lower = _tails(b - a, error or 0.0) if testable else (None, None)
    return Change(
        a=a,
        b=b,
        value=b - a,
        low=None if error is None else b - a - _Z95 * error,
        high=None if error is None else b - a + _Z95 * error,
        stderr=error,
        method=None if error is None else "stored intervals, as if independent",
        n_a=before["n_ok"],
        n_b=now["n_ok"],
        n_clusters=min(before["n_ok"], now["n_ok"]),
        test=None if error is None or not testable else "stored intervals",
        p=None if higher is None or lower is None else min(1.0, 2 * min(higher, lower)),
        p_lower=lower,
        p_higher=higher,
        paired=False,
    )


def _insufficient(row: Row) -> bool:
    """Too few clusters; a baseline of an older version says nothing about that."""
    return row.get("note") == TOO_FEW


def _standard_error(row: Row) -> float | None:
    low, high = row["ci_low"], row["ci_high"]
    return None if low is None or high is None else (high - low) / (2 * _Z95)


def _tails(value: float, error: float) -> tuple[float, float]:
    """One-sided p: that the true change is no rise, that it is no fall."""
    from scipy.special import ndtr

    if error == 0:
        return float(value <= 0), float(value >= 0)
    return float(ndtr(-value / error)), float(ndtr(value / error))
