"""Runs made by the real runner from a task without a model, and a way to type commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from lmmsae_eval.cli.main import cli
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.rundir import Run
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
from PIL import Image

HOOKPOINT = "model.layers.1"


class Toy(Task[float]):
    """Consistency without a model: a share `subject` of the latents has it, two have no score.

    One score a line, as the real task's.
    """

    spec = TaskSpec(
        name="consistency",
        version=2,
        title="Consistency",
        description="Toy.",
        metrics=(
            Metric("tpr", "True accepted [share]", "Share.", True, "", (0, 1), headline=True),
            Metric("judged", "Judged", "Not a headline.", None),
        ),
        cluster="latent",
    )

    def __init__(self, latents: int = 30) -> None:
        self.latents = latents

    def samples(self, context: Context[float]) -> Iterable[Sample]:
        for arm in ("main", "foil"):
            for i in range(self.latents):
                yield Sample(f"{arm}/{i}", str(i), arm, "toy", HOOKPOINT, i, "object", payload=i)

    def evaluate(self, samples: Sequence[Sample], context: Context[float]) -> Sequence[Outcome]:
        return [self._outcome(sample, context.subject) for sample in samples]

    def _outcome(self, sample: Sample, share: float) -> Outcome:
        if sample.payload == 28:
            return Outcome.unscorable("no \x1b[31mexplanation")
        if sample.payload == 29:
            raise RuntimeError("the judge went away")
        good = sample.arm == "main" and sample.payload < self.latents * share
        return Outcome.ok({"tpr": float(good)}, length=4)

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return [
            self._row(metric, arm, concept, lines)
            for metric in ("tpr", "judged")
            for arm in ("main", "foil")
            for concept in (None, "object")
        ]

    def _row(self, metric: str, arm: str, concept: str | None, lines: Sequence[Line]) -> MetricRow:
        mine = [line for line in lines if line["arm"] == arm]
        values = [line["scores"]["tpr"] for line in mine if line["status"] == "ok"]
        mean = sum(values) / len(values)
        where = {"sae": "toy", "hookpoint": HOOKPOINT, "arm": arm, "concept": concept}
        return MetricRow(
            metric, mean, len(values), len(mine), mean - 0.1, mean + 0.1, "toy", null=0.0, **where
        )

    def cards(self, lines: Sequence[Line], context: Context[float]) -> Iterable[Card]:
        for line in lines:
            lit = Image.new("RGB", (40, 8), (line["latent"], 0, 0))
            whole = Image.new("RGB", (40, 8), (line["latent"], 90, 90))
            text = {"explanation": f"<b>boat</b> {line['latent']}"}
            yield Card(
                f"latent {line['latent']}",
                text,
                images=[("lit", lit), ("whole", whole)],
                sample=line["id"],
            )


def named(name: str) -> type[Toy]:
    return type("Toy", (Toy,), {"spec": replace(Toy.spec, name=name)})


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no keys, its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def type_command(in_folder: Path) -> Callable[..., Result]:
    """`type_command("show", "x")` as a user would, in an empty folder."""

    def typed(*words: object, **extra: object) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words], **extra)

    return typed


@pytest.fixture
def make_run(in_folder: Path) -> Callable[..., Run]:
    """A complete toy run in `runs/`."""

    def make(
        share: float = 0.5,
        seed: int = 0,
        version: int = 1,
        fail_on_error: float = 2,
        l0: float | None = None,
        latents: int = 30,
        tasks: Sequence[str] = ("consistency",),
    ) -> Run:
        context = Context(share, ArtefactStore(), SilentProgress(), seed=seed)
        plan = Plan(
            tasks=[PlannedTask(named(name)(latents), context) for name in tasks],
            directory=in_folder / "runs",
            identity={"share": share, "latents": latents},
            comparability={"dataset": version},
            config={"tasks": ["consistency"], "model": "testbed", "saes": ["toy"]},
            saes=[{"name": "toy", "hookpoint": HOOKPOINT, "weights_sha256": "0", "l0": l0}],
            seed=seed,
            fail_on_error=fail_on_error,
        )
        return execute(plan)

    return make
