"""A toy task whose scores are known, and plans to run it."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.runner import Plan, PlannedTask
from lmmsae_eval.harness.statistics import mean_interval
from lmmsae_eval.harness.task import (
    Card,
    Context,
    Line,
    Metric,
    MetricRow,
    Outcome,
    Plot,
    Sample,
    Task,
    TaskSpec,
)

Score = Callable[[Sample], Any]
"""What the subject says of a sample: a number, an `Outcome`, or an exception raised."""


class Toy(Task[Score]):
    """Ten samples in five clusters; `evaluated` remembers the batches that it was asked for."""

    spec = TaskSpec(
        name="toy/mean",
        version=1,
        title="Toy",
        description="Whatever the subject says",
        metrics=(Metric("score", "Score", "The subject's number", True, range=(0.0, 1.0)),),
        cluster="pair",
    )
    batch_size = 4

    def __init__(self, ids: Sequence[str] = tuple(f"s{i}" for i in range(10))) -> None:
        self.ids = ids
        self.evaluated: list[list[str]] = []

    def samples(self, context: Context[Score]) -> Iterable[Sample]:
        for i, name in enumerate(self.ids):
            yield Sample(name, cluster=f"c{i // 2}", hookpoint="model.layers.3", sae="toy")

    def evaluate(self, samples: Sequence[Sample], context: Context[Score]) -> Sequence[Outcome]:
        self.evaluated.append([sample.id for sample in samples])
        return [self._outcome(context.subject(sample)) for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        scored = [line for line in lines if line["status"] == "ok"]
        interval = mean_interval(
            [line["scores"]["score"] for line in scored], [line["cluster"] for line in scored]
        )
        row = MetricRow(
            "score", interval.value, len(scored), len(lines), hookpoint="model.layers.3"
        )
        return [replace(row, ci_low=interval.low, ci_high=interval.high)]

    def cards(self, lines: Sequence[Line], context: Context[Score]) -> Iterable[Card]:
        from PIL import Image

        yield Card("first", scores={"score": 1.0}, images=[("black", Image.new("RGB", (4, 4)))])

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        yield Plot(
            "scores", "bars", "metric", "value", [{"x": r.metric, "y": r.value} for r in rows]
        )

    @staticmethod
    def _outcome(said: Any) -> Outcome:
        return said if isinstance(said, Outcome) else Outcome.ok({"score": said})


def number(sample: Sample) -> float:
    """A score that depends on the sample alone."""
    return int(sample.id[1:]) / 10


@pytest.fixture
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """Makes a plan of one toy task; keywords go to `Plan`, `task` and `subject` apart."""

    def make(subject: Score = number, task: Toy | None = None, **fields: Any) -> Plan:
        context: Context[Score] = Context(subject, ArtefactStore(), SilentProgress())
        planned = PlannedTask(task or Toy(), context, params=fields.pop("params", {}))
        defaults: dict[str, Any] = {
            "directory": tmp_path / "runs",
            "identity": {"model": "m"},
            "comparability": {"data": "d"},
        }
        return Plan([planned], **(defaults | fields))

    return make


def _loaded(name: str) -> ModuleType:
    """A file beside this one. A run is known by its task's source, looked up by module name."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """`judged_run`."""
    yield _loaded("judged_run")
    del sys.modules["judged_run"]


@pytest.fixture
def provider() -> Iterator[Any]:
    """A batch API on this machine, see `batch_provider.Provider`."""
    with _loaded("batch_provider").Provider() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    del sys.modules["batch_provider"]
