"""What the benchmark of `compare` makes is a run that `compare` reads."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compare.py"


@pytest.mark.parametrize("more", [[], ["--unpaired"]])
def test_the_benchmark_of_compare_runs(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main: Any = runpy.run_path(str(SCRIPT))["main"]

    main(["--samples", "30", "--json", *more])

    figures = json.loads(capsys.readouterr().out)
    assert figures["cpu_seconds"] > 0
    assert (figures["cells"], figures["samples"]) == (20, 30)
