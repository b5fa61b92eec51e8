"""Every error ends in one line on stderr and the documented exit code."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import Result
from lmmsae_eval import errors
from lmmsae_eval.cli import show
from lmmsae_eval.cli.main import cli

Type = Callable[..., Result]
Raise = Callable[[BaseException], None]


@pytest.fixture
def show_raises(monkeypatch: pytest.MonkeyPatch) -> Raise:
    """Makes `show` raise something."""

    def arrange(error: BaseException) -> None:
        def broken(**_: object) -> None:
            raise error

        monkeypatch.setattr(show.command, "callback", broken)

    return arrange


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.LmmsaeEvalError("said\nplainly"), 1),
        (errors.UsageError("said\nplainly"), 2),
        (errors.IncompleteError("said\nplainly"), 3),
        (errors.RegressionError("said\nplainly"), 4),
        (errors.NotComparableError("said\nplainly"), 5),
        (errors.InvalidSubmissionError("said\nplainly"), 6),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    error: errors.LmmsaeEvalError, code: int, show_raises: Raise, type_command: Type
) -> None:
    show_raises(error)

    result = type_command("show", "x")

    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "Error: said plainly\n")


def test_ctrl_c_is_130(show_raises: Raise, type_command: Type) -> None:
    show_raises(KeyboardInterrupt())

    result = type_command("show", "x")

    assert (result.exit_code, result.stderr) == (130, "Error: interrupted\n")


def test_a_bug_is_one_line_that_says_how_to_see_more(
    show_raises: Raise, type_command: Type
) -> None:
    show_raises(ZeroDivisionError("division by zero"))

    result = type_command("show", "x")

    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "unexpected ZeroDivisionError: division by zero" in result.stderr
    assert "--debug" in result.stderr


@pytest.mark.parametrize("environment", [{}, {"LMMSAE_EVAL_DEBUG": "1"}])
def test_the_traceback_is_shown_to_who_asks(
    environment: dict[str, str], show_raises: Raise, type_command: Type
) -> None:
    show_raises(ZeroDivisionError("division by zero"))
    words = ["show", "x"] if environment else ["--debug", "show", "x"]

    result = type_command(*words, env=environment)

    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_who_says_no_to_debugging_gets_no_traceback(show_raises: Raise, type_command: Type) -> None:
    show_raises(ZeroDivisionError("division by zero"))

    result = type_command("show", "x", env={"LMMSAE_EVAL_DEBUG": "0"})

    assert result.exit_code == 1
    assert "Traceback" not in result.stderr


def test_the_package_can_be_run_as_a_module() -> None:
    words = [sys.executable, "-m", "lmmsae_eval", "show", "--no-such-option"]

    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "Usage: lmmsae-eval show" in done.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("check", "x"), "--alpha"),
        (("check", "x"), "--min-coverage"),
        (("check", "x"), "--min"),
        (("compare", "x", "y"), "--alpha"),
        (("compare", "x", "y"), "--margin"),
        (("power", "x", "--metric", "m"), "--difference"),
        (("power", "x", "--metric", "m", "--difference", "1"), "--power"),
        (("power", "x", "--metric", "m", "--difference", "1"), "--alpha"),
        (("power", "x", "--metric", "m", "--difference", "1"), "--correlation"),
        (("cache", "prune"), "--older-than"),
    ],
)
def test_a_number_that_is_not_finite_is_a_wrong_option(
    words: tuple[str, ...], option: str, value: str, type_command: Type
) -> None:
    said = f"m={value}" if option == "--min" else value

    result = type_command(*words, f"{option}={said}")

    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr


def test_a_closed_pipe_ends_quietly(show_raises: Raise, type_command: Type) -> None:
    show_raises(BrokenPipeError(errno.EPIPE, "closed"))

    result = type_command("show", "x")

    assert result.exit_code == 1
    assert "bug" not in result.output


def test_wrong_options_are_clicks_usage_error(type_command: Type) -> None:
    result = type_command("show", "x", "--no-such-option")

    assert result.exit_code == 2
    assert "No such option" in result.stderr


def test_every_error_of_the_tree_has_one_of_the_documented_codes() -> None:
    documented = cli.epilog or ""
    tree = [errors.LmmsaeEvalError, *errors.LmmsaeEvalError.__subclasses__()]

    assert {f"{error.exit_code} " in click.unstyle(documented) for error in tree} == {True}
