"""Tables: aligned text in a pipe, rich in a terminal, and never a control character."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.cli.table import print_table, printable
from lmmsae_eval.reports.table import number

HEADER, ROWS = ("name", "score"), [("a", "0.5"), ("longer", "10")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_columns_are_aligned_and_numbers_flush_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(HEADER, ROWS, numbers=["score"])

    assert capsys.readouterr().out == "name    score\na         0.5\nlonger     10\n"


def test_in_a_terminal_rich_draws_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    print_table(HEADER, [*ROWS, ("[red]markup[/red]", "1")], numbers=["score"])

    words = terminal.getvalue()
    assert all(cell in words for row in ROWS for cell in row)
    assert "[red]markup[/red]" in words


@given(st.text())
def test_printable_text_is_one_line_of_the_same_length(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0.000"),
        (-0.12345, "-0.123"),
        (9.9994, "9.999"),
        (1234.5, "1234"),
        (31.25, "31.25"),
    ],
)
def test_numbers_show_what_matters(value: float | None, text: str) -> None:
    assert number(value) == text
