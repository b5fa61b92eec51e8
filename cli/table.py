"""Tables for people: drawn by rich in a terminal, aligned text in a pipe or a log."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

import click


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()
) -> None:
    """Print rows under a header; the columns named in `numbers` are flush right.

    Cells may hold a model's output: shown as it is, without markup or control characters.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(header, cells, numbers)
    else:
        click.echo(_plain(header, cells, numbers))


def printable(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def _plain(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(header, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _print_rich(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in header:
        number = name in numbers
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
