"""A stored run as a task's samples: outcomes as they are, or by another judge; without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .rundir import Run
from .task import Card, Context, Histogram, Line, MetricRow, Outcome, Plot, Sample, Task


def stored_task(task: Task[Any], run: Run, *, again: bool) -> Task[Any]:
    """A task that lists what `run` has stored of `task`, and judges it `again` or gives it back."""

    class Stored(_Stored):
        spec = task.spec
        batch_size = task.batch_size

    return Stored(task, run, again)


class _Stored(Task[Any]):
    def __init__(self, task: Task[Any], run: Run, again: bool) -> None:
        self._task, self._run, self._again = task, run, again

    def samples(self, context: Context[Any]) -> Iterable[Sample]:
        for line in self._run.lines(self.spec.name):
            place = {key: line[key] for key in ("arm", "sae", "hookpoint", "latent", "concept")}
            yield Sample(line["id"], line["cluster"], payload=line, **place)

    def evaluate(self, samples: Sequence[Sample], context: Context[Any]) -> Sequence[Outcome]:
        lines = [sample.payload for sample in samples]
        return self._task.rejudge(lines, context) if self._again else [*map(_outcome, lines)]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return self._task.aggregate(lines)

    def cards(self, lines: Sequence[Line], context: Context[Any]) -> Iterator[Card]:
        """The parent's, those of a sample with its scores of now."""
        scores = {line["id"]: line["scores"] for line in lines}
        for document in self._run.cards(self.spec.name):
            yield _card(self._run, document, scores)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        return self._task.plots(lines, rows)


def _outcome(line: Line) -> Outcome:
    found = Outcome(line["status"], line["scores"], line["detail"], line["concept"])
    if error := line["error"]:
        return replace(found, error=error["message"], error_type=error["type"])
    return found


def _card(run: Run, document: Mapping[str, Any], scores: Mapping[str, Any]) -> Card:
    from PIL import Image

    files = [(image["caption"], run.path / image["path"]) for image in document["images"]]
    # A run may come from elsewhere: nothing outside of it is a picture of it.
    inside = [(c, f) for c, f in files if f.resolve().is_relative_to(run.path.resolve())]
    return Card(
        title=document["title"],
        text=document["text"],
        scores=scores.get(str(document.get("sample")), document["scores"]),
        images=[(caption, Image.open(file)) for caption, file in inside],
        tags=document["tags"],
        sample=document.get("sample"),
        key=document.get("key"),
        related=[(other["key"], other["name"]) for other in document.get("related") or ()],
        histogram=Histogram(**drawn) if (drawn := document.get("histogram")) else None,
    )
