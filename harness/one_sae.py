"""One SAE's part of a run over several, read as a run of its own: to be compared with another's."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnknownNameError
from .rundir import Run
from .task import Line


@dataclass(frozen=True, slots=True)
class PartOfRun(Run):
    """What a run has of one SAE, and what it has of none."""

    sae: str

    def lines(self, task: str) -> list[Line]:
        lines = Run.lines(self, task)
        return [_first(line) for line in lines if line["sae"] in (self.sae, None)]


def of_sae(run: Run, name: str) -> PartOfRun:
    """The part of the SAE of this name, at all its hookpoints. Raises `UnknownNameError`.

    Numbers over several SAEs are left out of it.
    """
    saes = [sae for sae in run.document["saes"] if sae["name"] == name]
    if not saes:
        known = {sae["name"] for sae in run.document["saes"]}
        raise UnknownNameError(f"SAE of {run.id}:", name, known)
    rows = [row for row in run.document["metrics"] if row["sae"] == name]
    own = {"run_id": f"{run.id}:{name}", "saes": saes, "metrics": rows}
    return PartOfRun(run.path, {**run.document, **own}, name)


def _first(line: Line) -> Line:
    """As the only SAE at its hookpoint would have it: a second one's ids have a number there."""
    hookpoint, name = line["hookpoint"], str(line["id"])
    number, slash, rest = name.removeprefix(f"{hookpoint}#").partition("/")
    if not name.startswith(f"{hookpoint}#") or not slash or not number.isdecimal():
        return line
    return {**line, "id": f"{hookpoint}/{rest}"}
