"""A command group that imports a command when it is typed, and turns errors into exit codes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import click

from ..errors import LmmsaeEvalError, UnknownNameError

DEBUG_VARIABLE = "LMMSAE_EVAL_DEBUG"


class Interrupted(LmmsaeEvalError):
    """Ctrl-C, or a question that was not answered with yes."""

    exit_code = 130


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
        module = cmd_name.replace("-", "_")
        command: click.Command = import_module(f"{self._package}.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in known:
            raise UnknownNameError("command", args[0], known)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table alone: help must not import the commands."""
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except LmmsaeEvalError as error:
            _fail(ctx, str(error), error.exit_code)
        except click.Abort:
            _fail(ctx, "stopped: the question was not answered with yes", Interrupted.exit_code)
        except KeyboardInterrupt:
            _fail(ctx, "interrupted", Interrupted.exit_code)
        except Exception as error:
            _fail(ctx, _bug(error), LmmsaeEvalError.exit_code)


def _fail(ctx: click.Context, message: str, exit_code: int) -> NoReturn:
    """One line on stderr; the traceback only for those who ask for it."""
    if ctx.params.get("debug"):
        traceback.print_exc()
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    ctx.exit(exit_code)


def _bug(error: Exception) -> str:
    return (
        f"unexpected {type(error).__name__}: {error} "
        f"(this is a bug; `lmmsae-eval --debug ...` or {DEBUG_VARIABLE}=1 shows where)"
    )
