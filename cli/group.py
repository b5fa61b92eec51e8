"""A command group that imports a command when it is typed, and turns errors into exit codes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from ..errors import LmmsaeEvalError

DEBUG_VARIABLE = "LMMSAE_EVAL_DEBUG"
INTERRUPTED = 130


class Failure(click.ClickException):
    """One line on stderr and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


class LazyGroup(click.Group):
    """Commands by section, each with its short help; `name` lives in `<package>.<name>:command`."""

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._package = __name__.rpartition(".")[0]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{self._package}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table alone: help must not import the commands."""
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except LmmsaeEvalError as error:
            if debugging(ctx):
                raise
            raise Failure(str(error), error.exit_code) from error
        except KeyboardInterrupt:
            raise Failure("interrupted", INTERRUPTED) from None
        except Exception as error:
            if debugging(ctx):
                raise
            raise Failure(_bug(error), LmmsaeEvalError.exit_code) from error


def debugging(ctx: click.Context) -> bool:
    """Whether the user wants tracebacks: `--debug` before the command, or the variable."""
    return bool(ctx.params.get("debug")) or bool(os.environ.get(DEBUG_VARIABLE))


def _bug(error: Exception) -> str:
    return (
        f"unexpected {type(error).__name__}: {error} "
        f"(this is a bug; `lmmsae-eval --debug ...` or {DEBUG_VARIABLE}=1 shows where)"
    )
