"""The published files, where they are at hand; they are nobody's to copy into this repository."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def published_folder() -> Callable[[str], Path]:
    """The folder of a set; skips where there is none."""

    def folder(name: str) -> Path:
        roots = [os.environ.get("LMMSAE_EVAL_TEST_DATA"), REPOSITORY.parent / "shared" / "data"]
        found = next((Path(r) / name for r in roots if r and (Path(r) / name).is_dir()), None)
        if found is None:
            pytest.skip(f"{name} is not in ../shared/data nor in $LMMSAE_EVAL_TEST_DATA")
        return found

    return folder


@pytest.fixture(scope="session")
def hallusionbench(published_folder: Callable[[str], Path]) -> list[dict[str, Any]]:
    """The 1,129 records."""
    file = published_folder("hallusionbench") / "HallusionBench.json"
    records: list[dict[str, Any]] = json.loads(file.read_text())
    return records
