"""A task's fingerprint: its spec and source, without comments, docstrings and what only draws."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from .environment import package_version
from .identity import canonical, sha256
from .task import Task

_DRAWING = {"cards", "plots"}
_OURS = "lmmsae-eval"


@cache
def fingerprint(task: type[Task[Any]]) -> str:
    """Changes when the spec or code that an outcome could depend on changes.

    That is the task's module and, of the modules that it imports, those of its own package
    (`lmmsae_eval.tasks` for ours), except `cards` and `plots`.
    """
    return sha256({"spec": asdict(task.spec), "source": _sources(task.__module__)})


def package_of(task: type[Task[Any]]) -> dict[str, str | None]:
    """The distribution that a task comes from: `{package, package_version}`."""
    top = task.__module__.partition(".")[0]
    # Our own is known; looking others up reads every installed package's file list.
    names = (
        [_OURS]
        if top == __name__.partition(".")[0]
        else _distributions(tuple(sys.path)).get(top, [])
    )
    for name in names:
        found = package_version(name)
        if found is not None:
            return {"package": name, "package_version": found}
    return {"package": top, "package_version": None}


@cache
def _distributions(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Reads every installed package's file list: once for one `sys.path`."""
    return metadata.packages_distributions()


def _sources(module: str) -> dict[str, str]:
    """Normalised source by module name; empty where there is none, as in a console."""
    package = str(getattr(sys.modules.get(module), "__package__", None) or "")
    found: dict[str, str] = {}
    waiting = [(module, _file_of_loaded(module))]
    while waiting:
        name, file = waiting.pop()
        if file is None or name in found:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        here = name if file.name == "__init__.py" else name.rpartition(".")[0]
        if package:
            waiting += [(n, _file_of(n)) for n in _imports(tree, here) if _belongs(n, package)]
        found[name] = _normalised(tree)
    return found


def _belongs(name: str, package: str) -> bool:
    return name.startswith(f"{package}.") and name.rpartition(".")[2] not in _DRAWING


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Names of everything imported; `from a import b` may mean a module `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package or None)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _file_of_loaded(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file) if file else None


def _file_of(module: str) -> Path | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        # A name of a module that isn't a package: a function or a class.
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _normalised(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [child for child in node.body if not _is_idle(child)]
    return canonical(_plain(tree))


def _plain(node: Any) -> Any:
    """A tree as lists, without positions and empty fields: those differ between Python versions."""
    if isinstance(node, ast.AST):
        fields = {name: _plain(value) for name, value in ast.iter_fields(node) if name != "kind"}
        return [type(node).__name__, {n: v for n, v in fields.items() if v not in (None, [])}]
    if isinstance(node, list):
        return [_plain(item) for item in node]
    # 1, 1.0, "1" and True are different constants; bytes and complex numbers are not JSON.
    return None if node is None else repr(node)


def _is_idle(node: ast.stmt) -> bool:
    """Strings that stand alone, and the methods that draw."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    return isinstance(node, ast.FunctionDef) and node.name in _DRAWING
