"""The run directory: what is written while a run goes on, and how it is read back.

run.json              identity, environment, status, metrics; replaced atomically
samples/<task>.jsonl  one line per sample, appended and flushed, never rewritten
judge.jsonl           every request to a chat model and its reply
calls.jsonl           a line before each such request: what a kill left without a reply
batches.jsonl         what was handed in to a batch API, noted before it was
cards/, plots/        what reports show
manifest.json         sha256 of every file, written last: its presence means complete
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LmmsaeEvalError, UsageError
from .identity import file_sha256, file_stem
from .results import SCHEMA_VERSION, card_document, plot_document
from .task import Card, Line, Plot
from .writing import (
    append_bytes,
    clear_errors,
    encode_line,
    read_lines,
    replace_bytes,
    replace_json,
)

RUN, MANIFEST, JUDGE = "run.json", "manifest.json", "judge.jsonl"
CALLS, BATCHES = "calls.jsonl", "batches.jsonl"
_DOCUMENT = {"run_id", "status", "tasks", "metrics", "saes", "comparability"}
_TASK = {"name", "version", "protocol", "metrics", "comparability"}
_ROW = {"task", "sae", "hookpoint", "layer", "arm", "concept", "metric", "value", "n_ok"}
_ROW |= {"n_total", "coverage", "ci_low", "ci_high", "higher_is_better", "null", "note"}
_SAE = {"name"}
REQUIRED = {"id", "status", "arm", "cluster", "scores"}
"""What every sample line has."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it lies on disk. Sample lines are read when asked for."""

    path: Path
    document: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.document["run_id"])

    @property
    def complete(self) -> bool:
        """All samples are there and the run is sealed; it will never be written again."""
        return (self.path / MANIFEST).is_file()

    @property
    def status(self) -> str:
        """`complete`, `limited` (complete over a part of the samples) or `partial` (resumable)."""
        return str(self.document["status"]) if self.complete else "partial"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Metric rows, see `results.metric_document`. Early runs have no version in each row."""
        version = self.document.get("harness", {}).get("version")
        return [{"harness_version": version, **row} for row in self.document["metrics"]]

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """Each task's `{name, version, protocol, params, metrics, cluster, ...}`."""
        return list(self.document["tasks"])

    def lines(self, task: str) -> list[Line]:
        """The last line of every sample, in sample order."""
        lines = read_lines(self.path / samples_file(task))
        if not all(line.keys() >= REQUIRED for line in lines):
            raise UsageError(
                f"{self.path / samples_file(task)} is damaged: a line has no id or status"
            )
        # A retried sample keeps its place: dictionaries keep the order of first insertion.
        return list({str(line["id"]): line for line in lines}.values())

    def judge(self) -> list[dict[str, Any]]:
        """Every recorded request and reply."""
        return read_lines(self.path / JUDGE)

    def cards(self, task: str) -> list[dict[str, Any]]:
        """Card documents; image paths are relative to `path`."""
        return _read_list(self.path / "cards" / f"{file_stem(task)}.json")

    def plots(self, task: str) -> list[dict[str, Any]]:
        """Plot documents."""
        return _read_list(self.path / "plots" / f"{file_stem(task)}.json")

    def damage(self) -> list[str]:
        """Where the manifest is not kept: files missing or changed. Empty for a sound run."""
        listed: Mapping[str, str] = _read_object(self.path / MANIFEST)["files"]
        return [
            problem for name, digest in listed.items() if (problem := self._damage_of(name, digest))
        ]

    def _damage_of(self, name: str, digest: str) -> str | None:
        file = self.path / name
        if not file.resolve().is_relative_to(self.path.resolve()):
            return f"{name}: outside the run"
        if not file.is_file():
            return f"{name}: missing"
        return None if file_sha256(file) == digest else f"{name}: changed"


def load_run(path: str | Path) -> Run:
    """The run in a folder (or of its `run.json`). Raises `UsageError` when there is none."""
    folder = Path(path)
    if folder.name == RUN:
        folder = folder.parent
    if not (folder / RUN).is_file():
        raise UsageError(f"no run in {folder}; name a folder that holds {RUN}")
    document = _read_object(folder / RUN)
    version = document.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise UsageError(f"{folder / RUN} is not a run of lmmsae-eval: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{folder} was made by a newer lmmsae-eval (schema {version}); upgrade to read it"
        )
    _check_keys(folder / RUN, "run", document, _DOCUMENT)
    for part, what, keys in (
        ("tasks", "task", _TASK),
        ("metrics", "metric row", _ROW),
        ("saes", "SAE", _SAE),
    ):
        _check_list(folder / RUN, part, what, document[part], keys)
    return Run(folder, document)


def _check_list(file: Path, part: str, what: str, items: Any, keys: Set[str]) -> None:
    if not isinstance(items, list):
        raise UsageError(f"{file} is damaged: {part} is no list; restore it or delete the run")
    for item in items:
        _check_keys(file, what, item, keys)


def _check_keys(file: Path, what: str, item: Any, keys: Set[str]) -> None:
    """Other parts of the package read these keys without asking."""
    missing = keys - item.keys() if isinstance(item, Mapping) else keys
    if missing:
        raise UsageError(
            f"{file} is damaged: a {what} has no {', '.join(sorted(missing))}; "
            "restore it or delete the run"
        )


def list_runs(folder: Path) -> list[Run]:
    """All runs directly below a folder, oldest first."""
    runs = [load_run(file) for file in folder.glob(f"*/{RUN}")]
    return sorted(runs, key=lambda run: str(run.document.get("created", "")))


def samples_file(task: str) -> str:
    """Where a task's lines are, relative to the run."""
    return f"samples/{file_stem(task)}.jsonl"


class RunDirectory:
    """The writing side. Everything goes through here, so that a sealed run is never touched."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def sealed(self) -> bool:
        return (self.path / MANIFEST).is_file()

    @property
    def begun(self) -> bool:
        return (self.path / RUN).is_file()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One writer at a time. The lock dies with its process."""
        with clear_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with _locked(self.path):
            yield

    def write_document(self, document: Mapping[str, Any]) -> None:
        """Replace `run.json`."""
        self._check_open()
        replace_json(self.path / RUN, document)

    def append(self, task: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add sample lines."""
        self._append(samples_file(task), lines)

    def append_judge(self, entry: Mapping[str, Any]) -> None:
        """Add one request with its reply."""
        self._append(JUDGE, [entry])

    def append_call(self, call: Mapping[str, Any]) -> None:
        """Note one request that is about to be made."""
        self._append(CALLS, [call])

    def append_batch(self, event: Mapping[str, Any]) -> None:
        """Note what becomes of a batch of requests."""
        self._append(BATCHES, [event])

    def write_cards(self, task: str, cards: Iterable[Card]) -> None:
        """Cards as JSON, their pictures as PNG files. Pictures are written as they come."""
        documents = [
            self._write_card(f"{file_stem(task)}-{i:05d}", card) for i, card in enumerate(cards)
        ]
        self._write_list(f"cards/{file_stem(task)}.json", documents)

    def write_plots(self, task: str, plots: Iterable[Plot]) -> None:
        """Plots' data as JSON."""
        self._write_list(f"plots/{file_stem(task)}.json", [plot_document(plot) for plot in plots])

    def seal(self) -> None:
        """Write the manifest: from now on the run is complete."""
        self._check_open()
        files = sorted(
            file
            for file in self.path.rglob("*")
            if file.is_file() and not file.name.startswith(".")
        )
        digests = {file.relative_to(self.path).as_posix(): file_sha256(file) for file in files}
        replace_json(self.path / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": digests})

    def _append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        self._check_open()
        append_bytes(self.path / name, b"".join(encode_line(line) for line in lines))

    def _write_card(self, stem: str, card: Card) -> dict[str, Any]:
        self._check_open()
        names = [f"cards/img/{stem}-{i}.png" for i in range(len(card.images))]
        for name, (_, picture) in zip(names, card.images, strict=True):
            file = self.path / name
            with clear_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                picture.save(file, "PNG")
        return card_document(card, names)

    def _write_list(self, name: str, documents: Sequence[Mapping[str, Any]]) -> None:
        self._check_open()
        replace_bytes(self.path / name, encode_line(documents))

    def _check_open(self) -> None:
        if self.sealed:
            raise LmmsaeEvalError(
                f"{self.path} is complete and is never written again; make a new run"
            )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """An advisory lock on the folder itself, which leaves no file behind. Windows goes without."""
    import os

    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process is writing {folder}; wait for it to end") from error
        yield
    finally:
        os.close(handle)


def _read_object(path: Path) -> dict[str, Any]:
    value = _read_json(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} is damaged: not a JSON object; restore it or delete the run")
    return value


def _read_list(path: Path) -> list[dict[str, Any]]:
    return list(_read_json(path)) if path.is_file() else []


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read ({error}); restore it or delete the run") from error
