"""A small run of an invented task, made by the real runner: cards, plots, controls, failures."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
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
    Plot,
    Sample,
    Task,
    TaskSpec,
)
from PIL import Image, ImageDraw

HOOKPOINTS = ("model.layers.1", "model.layers.3", "model.layers.5")
CONCEPTS = ("scene", "object", "part", "material", "texture", "colour")
LABELS = ("boat", "sea", "brick", "a red & white <b>tower</b>", "striped", "window")
ATTACK = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SCORE = Metric(
    "score", "IoU", "Overlap of mask and explanation.", True, range=(0.0, 1.0), headline=True
)
SHARE = Metric("share", "Share above half", "Share of latents over .5.", True, range=(0.0, 1.0))


class Toy(Task[None]):
    """Seeded scores; one latent in nine has no explanation, one sample breaks."""

    spec = TaskSpec(
        name="toy",
        version=3,
        title="Toy overlap",
        description="How well an invented explanation covers what an invented latent marks.",
        metrics=(SCORE, SHARE),
        cluster="latent",
    )

    def samples(self, context: Context[None]) -> Iterable[Sample]:
        for layer, hookpoint in enumerate(HOOKPOINTS):
            for arm in ("main", "shuffled", "untrained"):
                for latent in range(36):
                    yield Sample(
                        id=f"{hookpoint}/{arm}/{latent}",
                        cluster=str(latent),
                        arm=arm,
                        sae=f"testbed-{layer}",
                        hookpoint=hookpoint,
                        latent=latent,
                        concept=CONCEPTS[latent % 6] if latent % 9 else None,
                    )

    def evaluate(self, samples: Sequence[Sample], context: Context[None]) -> Sequence[Outcome]:
        return [self._outcome(sample) for sample in samples]

    def _outcome(self, sample: Sample) -> Outcome:
        assert sample.latent is not None
        if sample.id == "model.layers.3/main/5":
            raise ValueError(f"no mask for {ATTACK}")
        if sample.latent % 9 == 0:
            return Outcome.unscorable("the explainer said nothing")
        centre = {"main": 0.45, "shuffled": 0.08, "untrained": 0.2}[sample.arm]
        value = min(1.0, max(0.0, random.Random(sample.id).gauss(centre, 0.15)))
        label = ATTACK if sample.latent == 7 else LABELS[sample.latent % len(LABELS)]
        return Outcome.ok({"score": value}, label=label)

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        cells: dict[tuple[str, str, str | None], list[Line]] = {}
        for line in lines:
            for concept in (None, line["concept"]) if line["concept"] else (None,):
                cells.setdefault((line["hookpoint"], line["arm"], concept), []).append(line)
        return [row for cell, own in cells.items() for row in _rows(*cell, own, cells)]

    def cards(self, lines: Sequence[Line], context: Context[None]) -> Iterable[Card]:
        for line in lines:
            if line["status"] == "ok" and line["arm"] == "main":
                yield _card(line)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        bars = [
            {
                "x": r.concept,
                "y": r.value,
                "low": r.ci_low,
                "high": r.ci_high,
                "series": r.hookpoint,
            }
            for r in rows
            if r.concept and r.arm == "main" and r.metric == "score"
        ]
        yield Plot("IoU by concept", "bars", "concept", "IoU", bars)
        depth = [
            {"x": HOOKPOINTS.index(str(r.hookpoint)) * 2 + 2, "y": r.value, "series": r.arm}
            | {"low": r.ci_low, "high": r.ci_high}
            for r in rows
            if r.concept is None and r.metric == "score"
        ]
        yield Plot("IoU by depth", "lines", "layer", "IoU", depth)
        dots = [
            {"x": i, "y": line["scores"]["score"], "label": f"$ {ATTACK}" if i == 3 else None}
            for i, line in enumerate(lines[:30])
            if line["status"] == "ok"
        ]
        yield Plot("Latents", "scatter", "latent", "IoU", dots)


def _rows(
    hookpoint: str,
    arm: str,
    concept: str | None,
    lines: Sequence[Line],
    cells: dict[tuple[str, str, str | None], list[Line]],
) -> Iterable[MetricRow]:
    values = _values(lines)
    null = _values(cells.get((hookpoint, "shuffled", concept), []))
    at = {"sae": lines[0]["sae"], "hookpoint": hookpoint, "arm": arm, "concept": concept}
    counts = {"n_ok": len(values), "n_total": len(lines)}
    mean = fmean(values) if values else None
    yield MetricRow(
        "score",
        mean,
        **counts,
        ci_low=None if mean is None else max(0.0, mean - 0.05),
        ci_high=None if mean is None else min(1.0, mean + 0.06),
        ci_method="cluster bootstrap (BCa)",
        null=fmean(null) if null else None,
        note="insufficient" if len(values) < 6 else None,
        **at,
    )
    if concept is None:
        yield MetricRow("share", fmean(v > 0.5 for v in values), **counts, **at)


def _values(lines: Sequence[Line]) -> list[float]:
    return [line["scores"]["score"] for line in lines if line["status"] == "ok"]


def _card(line: Line) -> Card:
    return Card(
        title=f"latent {line['latent']}: {line['detail']['label']}",
        text={"explanation": line["detail"]["label"], "judge": "yes, in 4 of 5"},
        scores={"IoU": line["scores"]["score"], "CLIP": None},
        images=[(f"image {i}", _picture(f"{line['id']}{i}")) for i in range(3)],
        tags={"concept": line["concept"], "hookpoint": line["hookpoint"], "arm": line["arm"]},
    )


def _picture(seed: str) -> Image.Image:
    colours = random.Random(seed)
    picture = Image.new("RGB", (96, 96), tuple(colours.choices(range(90, 220), k=3)))
    x, y = colours.randrange(8, 48), colours.randrange(8, 48)
    colour = tuple(colours.choices(range(256), k=3))
    ImageDraw.Draw(picture).ellipse((x, y, x + 36, y + 30), fill=colour)
    return picture


def make_run(folder: Path, **plan: Any) -> Run:
    """A run of the invented task in `folder`."""
    task = Toy()
    context: Context[None] = Context(None, ArtefactStore(None), SilentProgress())
    settings: dict[str, Any] = {
        "identity": {"model": "abc"},
        "comparability": {"model": "abc"},
        "model": {"name": "testbed", "identity": "9f" * 32, "dtype": "float32", "note": NOTE},
        "saes": [
            {"name": f"testbed-{i}", "hookpoint": h, "layer": 2 * i + 2, "d_model": 128}
            | {"n_latents": 256, "k": 4, "l0": 3.97, "live": 211, "dense": 2, "dead": 45}
            for i, h in enumerate(HOOKPOINTS)
        ],
        "judge": {"name": "testbed labels", "note": JUDGE_NOTE},
        "dataset": {"name": "testbed", "revision": "7c1d2e", "n_search": 600, "n_score": 300},
        "fail_on_error": 5,
    }
    return execute(Plan([PlannedTask(task, context)], folder, **{**settings, **plan}))


NOTE = "The model is the embedded testbed: its scores say nothing about models of real images."
JUDGE_NOTE = "The judge reads the same true masks as iou: the two are not independent."


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A complete run with failures, an attack in an explanation, cards and plots. Read-only."""
    return make_run(tmp_path_factory.mktemp("runs"))
