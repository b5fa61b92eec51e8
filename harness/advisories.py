"""Advisories: which versions of a task, or of the harness, are known to have made wrong scores."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .rundir import Run

SHIPPED = Path(__file__).with_name("advisories.toml")


@dataclass(frozen=True, slots=True)
class Advisory:
    """What is wrong with a task's scores in some versions. Ranges are PEP 440's, empty is all."""

    task: str
    reason: str
    versions: str = ""
    harness: str = ""

    def concerns(self, task: Mapping[str, Any], harness: str | None) -> bool:
        """Whether it is about this task of a run that this version of the harness made."""
        if task["name"] != self.task:
            return False
        return _within(str(task["version"]), self.versions) and _within(harness, self.harness)


def read_advisories(path: Path = SHIPPED) -> list[Advisory]:
    """All of a file. Raises `UsageError` when it has another shape."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found = [Advisory(**entry) for entry in document.get("advisory", [])]
        for advisory in found:
            SpecifierSet(advisory.versions)
            SpecifierSet(advisory.harness)
    except (OSError, TypeError, ValueError, InvalidSpecifier) as error:
        raise UsageError(f"{path} is no list of advisories ({error}); restore it") from error
    return found


def advised(run: Run, path: Path = SHIPPED) -> list[str]:
    """One line for each advisory that concerns a run."""
    harness = run.document.get("harness", {}).get("version")
    return [
        f"{run.id}: {task['name']} version {task['version']} is known to be wrong: {found.reason}"
        for found in read_advisories(path)
        for task in run.tasks
        if found.concerns(task, harness)
    ]


def _within(version: str | None, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet

    # An unknown version may be the bad one.
    return (
        not specifier or not version or SpecifierSet(specifier, prereleases=True).contains(version)
    )
