"""A comparison of runs for people: table rows, Markdown for a pull request, the plot over L0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase

from ..errors import UsageError
from ..harness.compare import Comparison
from ..harness.sparsity import SparsityPoint, sparsity_plots
from ..harness.verdict import Difference
from .markdown import escape, markdown_table
from .plots import save_plots
from .table import interval_text, layer_text, number, p_text

L0_COLUMNS = ("task", "metric", "L0", "score", "95 % interval", "layer", "SAE", "run")
L0_NUMBERS = ("L0", "score", "95 % interval")
_NAMED = 3
"""Unpaired ids that a line names; JSON has them all."""
_CORRECTIONS = {
    "holm": "p corrected after Holm",
    "bh": "p corrected after Benjamini and Hochberg",
    "none": "p not corrected",
}


def render_markdown(comparison: Comparison) -> str:
    """Fit for a pull request: tables, what they mean, what was left out."""
    runs = "\n".join(f"- **{letter}** {escape(run)}" for letter, run in letters(comparison).items())
    parts = ["# Comparison", runs, markdown_table(columns(comparison), table_rows(comparison))]
    parts.append("\n".join(f"- {escape(line)}" for line in small_print(comparison)))
    if comparison.against_l0:
        parts += ["## Scores against L0", markdown_table(L0_COLUMNS, l0_rows(comparison))]
    return "\n\n".join(parts) + "\n"


def letters(comparison: Comparison) -> dict[str, str]:
    """A is the run that the others are compared with."""
    if len(comparison.runs) > len(ascii_uppercase):
        return {str(i): run for i, run in enumerate(comparison.runs, start=1)}
    return dict(zip(ascii_uppercase, comparison.runs, strict=False))


def columns(comparison: Comparison) -> tuple[str, ...]:
    """Of `table_rows`."""
    where = ("task", comparison.by, "metric")
    if len(comparison.runs) == 2:
        return (*where, "A", "B", "B - A", "95 % interval", "n", "p", "B is")
    return (*where, "run", "A", "run's", "run's - A", "95 % interval", "n", "p", "run is")


def number_columns(comparison: Comparison) -> tuple[str, ...]:
    """Those that are flush right."""
    return columns(comparison)[-7:-1]


def table_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One line a difference."""
    letter_of = {run: letter for letter, run in reversed(letters(comparison).items())}
    several = len(comparison.runs) > 2
    return [
        (
            *(row.task, row.cell or "all", row.metric),
            *((letter_of[row.run],) if several else ()),
            *(number(row.a), number(row.b), number(row.difference)),
            interval_text(row.ci_low, row.ci_high),
            f"{row.n_pairs} pairs" if row.n_pairs else f"{row.n_a} | {row.n_b}",
            p_text(row.p_corrected),
            row.outcome,
        )
        for row in comparison.rows
    ]


def small_print(comparison: Comparison) -> list[str]:
    """What the table's words and p values mean, and what is not in it."""
    tests = "test" if comparison.family == 1 else "tests"
    family = (
        f"{comparison.family} {tests} in the family, {_CORRECTIONS[comparison.correction]}, "
        f"alpha {comparison.alpha:g}"
    )
    tied = (
        "tied: no difference was found; the interval says how large one may be"
        if comparison.margin is None
        else f"tied: the difference is shown to be within {comparison.margin:g}"
    )
    return [family, tied, *_left_out(comparison), *comparison.notes]


def l0_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One line an SAE and metric."""
    return [_l0_row(point) for point in comparison.against_l0]


def save_l0_plot(comparison: Comparison, file: Path) -> None:
    """Every headline metric over L0, as PNG, SVG or PDF. Raises `UsageError` without L0."""
    if not comparison.against_l0:
        raise UsageError("no plot: none of the runs has a measured L0; run again with this version")
    save_plots(sparsity_plots(comparison.against_l0), file)


def _l0_row(point: SparsityPoint) -> tuple[str, ...]:
    return (
        point.task,
        point.metric,
        number(point.l0),
        number(point.value),
        interval_text(point.ci_low, point.ci_high),
        layer_text(point.hookpoint, point.layer),
        point.sae,
        point.run,
    )


def _left_out(comparison: Comparison) -> Iterator[str]:
    """Unpaired samples, said once for all metrics that lack the same ones."""
    letter_of = {run: letter for letter, run in reversed(letters(comparison).items())}
    found: dict[tuple[str, str], list[str]] = {}
    for row in comparison.rows:
        sides = (("A", row.unpaired_a), (letter_of[row.run], row.unpaired_b))
        missing = "; ".join(_missing(letter, ids) for letter, ids in sides if ids)
        if missing:
            found.setdefault((_where(row), missing), []).append(row.metric)
    for (where, missing), metrics in found.items():
        yield f"unpaired and left out of {where} {', '.join(metrics)}: {missing}"


def _where(row: Difference) -> str:
    return f"{row.task} {row.cell or 'all'}"


def _missing(letter: str, ids: Sequence[str]) -> str:
    more = ", …" if len(ids) > _NAMED else ""
    return f"{len(ids)} only in {letter} ({', '.join(ids[:_NAMED])}{more})"
