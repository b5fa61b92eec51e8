"""Nothing runs the benchmarks or checks their types, so a name that moves away breaks them."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("script", sorted(file.name for file in BENCHMARKS.glob("*.py")))
def test_what_a_benchmark_imports_of_the_package_is_there(script: str) -> None:
    tree = ast.parse((BENCHMARKS / script).read_text())
    wanted = [
        (node.module, name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lmmsae_eval")
        for name in node.names
    ]
    assert wanted
    missing = [one for one in wanted if not hasattr(import_module(str(one[0])), one[1])]
    assert not missing
