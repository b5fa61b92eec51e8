"""A task's fingerprint: its spec and source, without comments, docstrings and what only draws."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import asdict
from importlib.metadata import packages_distributions
from typing import Any

from .environment import package_version
from .identity import sha256
from .task import Task

_DRAWING = {"cards", "plots"}
_OURS = "lmmsae-eval"


def fingerprint(task: type[Task[Any]]) -> str:
    """Changes when the spec or the code of the task's module could have changed an outcome."""
    return sha256({"spec": asdict(task.spec), "source": _normalised(_source(task))})


def package_of(task: type[Task[Any]]) -> dict[str, str | None]:
    """The distribution that a task comes from: `{package, package_version}`."""
    top = task.__module__.partition(".")[0]
    # Our own is known; looking others up reads every installed package's file list.
    names = [_OURS] if top == __name__.partition(".")[0] else packages_distributions().get(top, [])
    for name in names:
        found = package_version(name)
        if found is not None:
            return {"package": name, "package_version": found}
    return {"package": top, "package_version": None}


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
