"""A task's fingerprint: its spec and source, without comments, docstrings and what only draws."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from .identity import sha256
from .task import Task

_DRAWING = {"cards", "plots"}


def fingerprint(task: type[Task[Any]]) -> str:
    """Changes when the spec or the code of the task's module could have changed an outcome."""
    return sha256({"spec": asdict(task.spec), "source": _normalised(_source(task))})


def package_of(task: type[Task[Any]]) -> dict[str, str | None]:
    """The distribution that a task comes from: `{package, package_version}`."""
    top = task.__module__.partition(".")[0]
    for distribution in _distributions().get(top, ()):
        try:
            return {"package": distribution, "package_version": version(distribution)}
        except PackageNotFoundError:
            continue
    return {"package": top, "package_version": None}


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Reads every installed package's file list, so once is enough."""
    return packages_distributions()


def _source(task: type[Task[Any]]) -> str:
    """The module's source; empty where there is none, as in a console."""
    try:
        return inspect.getsource(sys.modules[task.__module__])
    except (OSError, TypeError, KeyError):
        return ""


def _normalised(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [child for child in node.body if not _is_idle(child)]
    return ast.dump(tree)


def _is_idle(node: ast.stmt) -> bool:
    """Strings that stand alone, and the methods that draw."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    return isinstance(node, ast.FunctionDef) and node.name in _DRAWING
