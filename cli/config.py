"""`--config FILE`: options from a file; those that are typed, or set in the environment, win."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import UnknownNameError, UsageError

PARAMS = "params"
_NOT_IN_FILES = ("config", "help", "dry_run", "json")


def load_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """An eager option's callback: the file's options become the defaults of this command."""
    if path is not None and not ctx.resilient_parsing:
        from ..harness.config import read_config

        options = read_config(path)
        ctx.meta[PARAMS] = options.pop(PARAMS, {})
        ctx.default_map = _defaults(ctx.command, options, path)
    return path


def config_params(ctx: click.Context) -> dict[str, dict[str, Any]]:
    """Per task, the parameters of the file's `params` table."""
    return {task: dict(params) for task, params in ctx.meta.get(PARAMS, {}).items()}


def _defaults(command: click.Command, options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    known = _options_by_name(command)
    defaults = {}
    for key, value in options.items():
        if key not in known:
            raise UnknownNameError(f"option in {path}:", key, [*known, PARAMS])
        option = known[key]
        several = option.multiple or option.nargs != 1
        if isinstance(value, Mapping) or (isinstance(value, list) and not several):
            raise UsageError(f"{path}: {key} takes one value, not {value!r}")
        assert option.name is not None
        single = option.multiple and not isinstance(value, list)
        defaults[option.name] = [value] if single else value
    return defaults


def _options_by_name(command: click.Command) -> dict[str, click.Option]:
    """As typed, without the hyphens before and with underscores between."""
    found = {
        name.removeprefix("--").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }
    return {name: option for name, option in found.items() if name not in _NOT_IN_FILES}
