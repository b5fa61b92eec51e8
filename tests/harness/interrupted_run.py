"""A run in a process of its own, to be killed: `interrupted_run.py FOLDER [bytes per file]`."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmmsae_eval.errors import LmmsaeEvalError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
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


class Slow(Task[None]):
    """Scores that depend on the whole batch in its last digits, as a model's do."""

    spec = TaskSpec("toy/slow", 1, "Slow", "", (Metric("score", "Score", "", True),), "pair")
    batch_size = 8

    def samples(self, context: Context[None]) -> Iterable[Sample]:
        return [Sample(f"s{i:03}", cluster=f"c{i // 2}") for i in range(160)]

    def evaluate(self, samples: Sequence[Sample], context: Context[None]) -> Sequence[Outcome]:
        time.sleep(0.01)
        batch = "".join(sample.id for sample in samples)
        if "s100" in batch and len(samples) > 1:
            raise RuntimeError("out of memory")
        return [_outcome(sample, batch) for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        values = [line["scores"]["score"] for line in lines if line["status"] == "ok"]
        return [MetricRow("score", sum(values) / len(values), len(values), len(lines))]

    def cards(self, lines: Sequence[Line], context: Context[None]) -> Iterable[Card]:
        from PIL import Image

        picture = Image.new("RGB", (64, 64))
        return [Card(line["id"], images=[("black", picture)]) for line in lines[:40]]


def _outcome(sample: Sample, batch: str) -> Outcome:
    if sample.id.endswith("7"):
        return Outcome.unscorable("ends with 7")
    return Outcome.ok(
        {"score": random.Random(sample.id).random() + 1e-9 * random.Random(batch).random()}
    )


def main(folder: str, file_limit: int | None = None) -> int:
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    context: Context[None] = Context(None, ArtefactStore(), SilentProgress())
    plan = Plan([PlannedTask(Slow(), context)], Path(folder), identity={}, comparability={})
    try:
        execute(plan)
    except LmmsaeEvalError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
