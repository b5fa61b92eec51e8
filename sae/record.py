"""What a training leaves in its folder: its recipe, its metrics, its SAEs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .distributed import Work
from .files import told_in_one_line, write_atomically
from .formats import save_sae
from .lmm import Hookpoint
from .sae import SAE


class Record:
    """The folder `out`. What trainings of other layers left there is kept."""

    def __init__(self, out: Path, config: Mapping[str, Any], work: Work) -> None:
        self._out = out
        self._config = dict(config)
        self._work = work
        self._metrics = out / "metrics.jsonl"

    def open(self, start: int) -> None:
        """Metrics from the step `start` on are forgotten: they come again. Raises `UsageError`
        where nothing can be written.
        """
        with told_in_one_line(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            _write_json(self._out / "config.json", self._config)
            lines = self._metrics.read_text().splitlines() if self._metrics.is_file() else []
            kept = [line + "\n" for line in lines if self._stays(line, start)]
            write_atomically(self._metrics, "".join(kept))

    def _stays(self, line: str, start: int) -> bool:
        """Whether a line of metrics is another layer's, or of a step that is not made again."""
        try:
            said = json.loads(line)
            mine = said["hookpoint"] in self._config["hookpoints"]
            return not mine or said["step"] < start
        except (ValueError, KeyError, TypeError):  # torn by a kill
            return False

    def add(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Append everyone's metrics, and return them; nothing but at the first process."""
        if self._work.how == "layers":
            lines = [line for found in self._work.ranks.gather_objects(lines) for line in found]
        if not self._work.first:
            return []
        with told_in_one_line(self._metrics), self._metrics.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return lines

    def write(self, hookpoint: Hookpoint, sae: SAE) -> None:
        """An SAE with its own config: another layer's training replaces the one above."""
        folder = self._out / hookpoint.name
        save_sae(sae, folder, {"hookpoint": hookpoint.name})
        with told_in_one_line(folder):
            _write_json(folder / "config.json", self._config | {"hookpoints": [hookpoint.name]})


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_atomically(file, json.dumps(content, indent=1) + "\n")
