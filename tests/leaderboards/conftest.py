"""Small complete runs of an invented task, made by the real runner, to be tampered with."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.identity import file_sha256
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.registry import TASKS
from lmmsae_eval.harness.rundir import Run, load_run
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.harness.statistics import mean_interval
from lmmsae_eval.harness.task import (
    Card,
    Context,
    Line,
    Metric,
    MetricRow,
    Outcome,
    Sample,
    Task,
    TaskSpec,
)
from PIL import Image

METRICS = (
    Metric("score", "Overlap", "Mean overlap.", True, range=(0.0, 1.0), headline=True),
    Metric("ok", "Scored", "Share of samples with a score.", None),
)


class Toy(Task[float]):
    """The subject is the mean of the scores."""

    spec: ClassVar[TaskSpec] = TaskSpec(
        "invented/toy",
        1,
        "Invented overlap",
        "Nothing real.",
        METRICS,
        "latent",
        ("strict", "paper"),
    )

    def samples(self, context: Context[float]) -> Iterable[Sample]:
        for layer in (1, 3):
            for arm in ("main", "null"):
                for latent in range(24):
                    yield Sample(
                        id=f"{layer}/{arm}/{latent}",
                        cluster=str(latent),
                        arm=arm,
                        sae=f"toy-sae-{layer}",
                        hookpoint=f"model.layers.{layer}",
                        latent=latent,
                    )

    def evaluate(self, samples: Sequence[Sample], context: Context[float]) -> Sequence[Outcome]:
        return [_outcome(sample, context) for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        cells: dict[tuple[str, str, str], list[Line]] = {}
        for line in lines:
            cells.setdefault((line["sae"], line["hookpoint"], line["arm"]), []).append(line)
        return [row for cell, own in cells.items() for row in _rows(cell, own)]

    def cards(self, lines: Sequence[Line], context: Context[float]) -> Iterable[Card]:
        yield Card("a card", images=[("a picture", Image.new("RGB", (4, 4)))])


class OtherVersion(Toy):
    """The same task, changed."""

    spec: ClassVar[TaskSpec] = replace(Toy.spec, version=2)


def _outcome(sample: Sample, context: Context[float]) -> Outcome:
    if sample.latent == 5:
        return Outcome.unscorable("silent")
    noise = random.Random(f"{sample.id} {context.seed}").uniform(-0.1, 0.1)
    return Outcome.ok({"score": (context.subject if sample.arm == "main" else 0.15) + noise})


def _rows(cell: tuple[str, str, str], lines: Sequence[Line]) -> Iterator[MetricRow]:
    sae, hookpoint, arm = cell
    scored = [line for line in lines if line["status"] == "ok"]
    found = mean_interval(
        [line["scores"]["score"] for line in scored], [line["cluster"] for line in scored]
    )
    at = {
        "sae": sae,
        "hookpoint": hookpoint,
        "arm": arm,
        "n_ok": len(scored),
        "n_total": len(lines),
    }
    note = "insufficient" if found.insufficient else None
    interval = {"ci_low": found.low, "ci_high": found.high, "ci_method": found.method}
    yield MetricRow("score", found.value, **at, **interval, note=note)
    yield MetricRow("ok", len(scored) / len(lines), **at)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS._registered, Toy.spec.name, Toy)


MakeRun = Callable[..., Run]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs as they were made, once a session. To be copied, not changed."""
    found: dict[str, Path] = {}

    def make(*how: Any, **plan: Any) -> Path:
        key = repr((how, sorted(plan.items())))
        if key not in found:
            found[key] = _execute(tmp_path_factory.mktemp("made"), *how, **plan).path
        return found[key]

    return make


@pytest.fixture
def make_run(made: Callable[..., Path], tmp_path: Path) -> MakeRun:
    """`make_run(mean=.5, protocol="strict", task=Toy, judge="labels", **of the plan)`."""

    def make(
        mean: float = 0.5,
        protocol: str = "strict",
        task: type[Task[float]] = Toy,
        folder: str = "runs",
        judge: str | None = "labels",
        **plan: Any,
    ) -> Run:
        source = made(mean, protocol, task, judge, **plan)
        target = tmp_path / folder / source.name
        if not target.exists():
            shutil.copytree(source, target)
        return load_run(target)

    return make


def _execute(
    folder: Path,
    mean: float,
    protocol: str,
    task: type[Task[float]],
    judge: str | None,
    **plan: Any,
) -> Run:
    context = Context(mean, ArtefactStore(None), SilentProgress(), protocol)
    asked = {"judge": {"provider": "testbed", "requested": judge}} if judge else {}
    settings: dict[str, Any] = {
        "identity": {"sae": mean, "judge": judge},
        "comparability": {"model": "abc"},
        "model": {"name": "testbed"},
        "dataset": {"name": "testbed", "revision": "r1"},
        "judge": asked.get("judge", {}),
        "saes": [
            {"name": f"toy-sae-{i}", "hookpoint": f"model.layers.{i}", "k": 4, "l0": 3.9}
            for i in (1, 3)
        ],
    }
    planned = PlannedTask(task(), context, comparability=asked)
    return execute(Plan([planned], folder, **{**settings, **plan}))


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard"


class Tamper:
    """What a careful forger does to a run: the manifest always fits what was changed."""

    def run(self, run: Run, change: Callable[[dict[str, Any]], Any]) -> Run:
        """Change run.json."""
        document = json.loads((run.path / "run.json").read_text())
        change(document)
        (run.path / "run.json").write_text(json.dumps(document))
        return self.reseal(run)

    def lines(self, run: Run, change: Callable[[list[dict[str, Any]]], Any]) -> Run:
        """Change the sample lines."""
        file = run.path / SAMPLES
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        change(lines)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return self.reseal(run)

    def text(self, run: Run, name: str, old: str, new: str) -> Run:
        """Replace a text where it first stands in a file."""
        text = (run.path / name).read_text()
        assert old in text
        (run.path / name).write_text(text.replace(old, new, 1))
        return self.reseal(run)

    def manifest(self, run: Run, change: Callable[[dict[str, Any]], Any]) -> Run:
        """Change the manifest itself."""
        manifest = json.loads((run.path / "manifest.json").read_text())
        change(manifest["files"])
        (run.path / "manifest.json").write_text(json.dumps(manifest))
        return run

    def reseal(self, run: Run) -> Run:
        files = [f for f in run.path.rglob("*") if f.is_file() and f.name != "manifest.json"]
        digests = {f.relative_to(run.path).as_posix(): file_sha256(f) for f in files}
        text = json.dumps({"schema_version": 1, "files": digests})
        (run.path / "manifest.json").write_text(text)
        return run


SAMPLES = "samples/invented.toy.jsonl"


@pytest.fixture
def tamper() -> Tamper:
    return Tamper()


@pytest.fixture
def install_version_2(monkeypatch: pytest.MonkeyPatch) -> Callable[[], type[Task[float]]]:
    """Installs the task's next version in the place of its first."""

    def install() -> type[Task[float]]:
        monkeypatch.setitem(TASKS._registered, Toy.spec.name, OtherVersion)
        return OtherVersion

    return install
