"""`lmmsae-eval --help` is instant and tells a newcomer what there is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module

import pytest
from click.testing import Result
from lmmsae_eval.cli.main import SECTIONS, cli
from lmmsae_eval.harness.rundir import Run

HELP = "import sys; sys.argv = ['lmmsae-eval', '--help']; from lmmsae_eval.cli.main import main; "
OURS = {"lmmsae_eval", "lmmsae_eval.cli", "lmmsae_eval.cli.group", "lmmsae_eval.cli.main"}
COMMANDS = [name for section in SECTIONS.values() for name in section]


def _output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def _seconds(code: str) -> float:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return time.perf_counter() - start

    # The fastest: whatever else the machine does only adds.
    return min(once() for _ in range(7))


def test_help_imports_click_and_four_light_files_of_ours_and_nothing_else() -> None:
    code = (
        "import sys, atexit; before = set(sys.modules)\n"
        "atexit.register(lambda: print('LOADED', *sorted(set(sys.modules) - before)))\n"
        + HELP
        + "main()"
    )

    loaded = _output(code).rpartition("LOADED ")[2].split()

    third_party = {
        name.partition(".")[0]
        for name in loaded
        if name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert third_party == {"click", "lmmsae_eval"}
    assert {name for name in loaded if name.startswith("lmmsae_eval")} == OURS | {
        "lmmsae_eval.errors"
    }


def test_help_costs_less_than_150_ms_over_the_interpreter() -> None:
    assert _seconds(HELP + "main()") - _seconds("pass") < 0.150


def test_help_names_every_command_and_every_exit_code(type_command: Callable[..., Result]) -> None:
    result = type_command("--help")

    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
    for code in (
        "0 done",
        "1 bug",
        "2 wrong",
        "3 incomplete",
        "4 regression",
        "5 runs",
        "6 invalid",
        "130",
    ):
        assert code in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_has_help(
    name: str, type_command: Callable[..., Result]
) -> None:
    command = import_module(f"lmmsae_eval.cli.{name.replace('-', '_')}").command

    assert command.name == name
    assert command.help
    assert type_command(name, "--help").exit_code == 0


def test_underscores_are_as_good_as_hyphens(type_command: Callable[..., Result]) -> None:
    hyphens = type_command("ls", "runs", "--output-dir", "x")
    underscores = type_command("ls", "runs", "--output_dir", "x")

    assert hyphens.exit_code == underscores.exit_code == 0


def test_every_option_can_come_from_the_environment(
    type_command: Callable[..., Result], make_run: Callable[..., Run]
) -> None:
    run = make_run()
    run.path.parent.rename("elsewhere")

    result = type_command("show", run.id, env={"LMMSAE_EVAL_SHOW_OUTPUT_DIR": "elsewhere"})

    assert result.exit_code == 0


def test_a_mistyped_command_is_a_usage_error_with_a_suggestion(
    type_command: Callable[..., Result],
) -> None:
    result = type_command("rnu")

    assert result.exit_code == 2
    assert result.stderr == "Error: unknown command 'rnu'; did you mean 'run'?\n"


def test_the_version_is_the_packages() -> None:
    import lmmsae_eval

    assert cli.params
    assert lmmsae_eval.__version__ in _output(
        "from lmmsae_eval.cli.main import cli; cli(['--version'])"
    )
