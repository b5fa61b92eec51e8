"""SAEs of one run are compared as if each had a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import UnknownNameError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.compare import compare
from lmmsae_eval.harness.one_sae import of_sae
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.harness.task import (
    Context,
    Line,
    Metric,
    MetricRow,
    Outcome,
    Sample,
    Task,
    TaskSpec,
)

HOOKPOINT = "layers.1"
SAES = ("wide", "narrow")
N = 40


class Steering(Task[dict[str, float]]):
    """Questions asked under each SAE, by ids as `halluc` makes them, and without any; latents."""

    spec = TaskSpec("toy/steering", 1, "", "", (Metric("score", "Score", "", True),), "question")

    def samples(self, context: Context[dict[str, float]]) -> Iterable[Sample]:
        for i in range(N):
            yield Sample(f"alone/{i}", f"{i}", arm="untouched")
        for place, name in enumerate(context.subject):
            prefix = f"{HOOKPOINT}#{place + 1}" if place else HOOKPOINT
            where = {"sae": name, "hookpoint": HOOKPOINT}
            for i in range(N):
                yield Sample(f"{prefix}/main/{i}", f"{i}", **where)  # type: ignore[arg-type]
            yield Sample(f"{name}/{HOOKPOINT}/7", "7", arm="latent", latent=7, **where)  # type: ignore[arg-type]

    def evaluate(self, samples: Sequence[Sample], context: Any) -> Sequence[Outcome]:
        return [
            Outcome.ok({"score": context.subject.get(s.sae, 0.0) + int(s.cluster) % 7 / 100})
            for s in samples
        ]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        found = [MetricRow("score", 0.5, N, N)]
        for name in SAES:
            scores = [line["scores"]["score"] for line in lines if line["sae"] == name]
            if scores:
                mean = sum(scores) / len(scores)
                found.append(MetricRow("score", mean, N, N, sae=name, hookpoint=HOOKPOINT))
        return found


@pytest.fixture
def make(tmp_path: Path) -> Callable[[dict[str, float]], Run]:
    def made(quality: dict[str, float]) -> Run:
        context = Context(quality, ArtefactStore(), SilentProgress())
        saes = [{"name": n, "hookpoint": HOOKPOINT, "weights_sha256": n} for n in quality]
        planned = [PlannedTask(Steering(), context)]
        return execute(Plan(planned, tmp_path, {"q": quality}, {"data": "d"}, saes=saes))

    return made


Make = Callable[[dict[str, float]], Run]


def test_two_saes_of_a_run_are_compared_over_the_same_questions(make: Make) -> None:
    run = make({"wide": 0.5, "narrow": 0.7})

    (row,) = compare(of_sae(run, "wide"), of_sae(run, "narrow"), by="layer").rows

    assert row.difference == pytest.approx(0.2)
    assert (row.n_pairs, row.outcome) == (N, "better")


def test_a_part_is_what_a_run_of_that_sae_alone_would_be(make: Make) -> None:
    both, alone = make({"wide": 0.5, "narrow": 0.7}), make({"narrow": 0.7})
    part = of_sae(both, "narrow")

    assert part.lines("toy/steering") == alone.lines("toy/steering")
    assert part.metrics == [row for row in alone.metrics if row["sae"] is not None]
    (row,) = compare(part, alone, by="layer").rows
    assert (row.difference, row.n_pairs, row.outcome) == (0.0, N, "tied")


def test_an_sae_whose_name_is_a_number_keeps_the_names_of_its_latents(make: Make) -> None:
    run = make({"256": 0.5, "512": 0.7})

    latents = [line["id"] for line in of_sae(run, "512").lines("toy/steering") if line["latent"]]

    assert latents == [f"512/{HOOKPOINT}/7"]


def test_a_part_names_its_run_and_its_sae(make: Make) -> None:
    run = make({"wide": 0.5, "narrow": 0.7})

    part = of_sae(run, "wide")

    assert part.id == f"{run.id}:wide"
    assert part.complete
    assert [sae["name"] for sae in part.document["saes"]] == ["wide"]


def test_an_sae_that_the_run_has_not_is_refused_with_what_was_probably_meant(make: Make) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'narrow'"):
        of_sae(make({"wide": 0.5, "narrow": 0.7}), "narow")
