"""People's ratings as a child run: how often they find an explanation consistent, how far they
agree with each other and with the judge of the parent run, and what both together say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore
from ..harness.identity import sha256
from ..harness.progress import SilentProgress
from ..harness.rundir import Run
from ..harness.runner import Plan, PlannedTask, execute
from ..harness.task import Card, Context, Line, MetricRow, Outcome, Plot, Sample, Task, TaskSpec
from .disagreements import disagreement_cards
from .items import TASK, Asked
from .rating_files import Rated, Rating, RatingFile, held_against
from .rating_metrics import METRICS
from .rating_plots import rating_plots
from .rating_rows import rating_rows

JUDGE = "judge"
"""In the place of a rater's name: the judge's own verdicts, on all items, rated or not."""
_ARMS = ("main", "foil")


@dataclass(frozen=True)
class Ratings:
    """The subject of the task below: the parent run and who said what."""

    run: Run
    raters: Sequence[Rated]

    @cached_property
    def lines(self) -> Mapping[str, Line]:
        """The parent's items by sample id."""
        lines = self.run.lines(TASK)
        return {line["id"]: line for line in lines if line["arm"] in _ARMS}


class PeoplesRatings(Task[Ratings]):
    """Not registered: it is made from files, never run on a model."""

    spec = TaskSpec(
        name="ratings",
        version=2,
        title="Judge against people",
        description="People's 0/1 ratings of consistency items, their agreement with each other "
        "and with the judge, and one estimate from many verdicts and few ratings.",
        metrics=METRICS,
        cluster="latent",
        unscorable="the person couldn't tell, or the judge has no verdict",
    )

    def samples(self, context: Context[Ratings]) -> Iterable[Sample]:
        subject = context.subject
        for line in subject.lines.values():
            yield _sample(line, f"{JUDGE}/{line['id']}", line["arm"], _verdict(line))
        for rated in subject.raters:
            for asked, rating in rated.answers:
                yield _answer(rated.rater, asked, rating, subject)

    def evaluate(self, samples: Sequence[Sample], context: Context[Ratings]) -> Sequence[Outcome]:
        return [sample.payload for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return list(rating_rows(lines))

    def cards(self, lines: Sequence[Line], context: Context[Ratings]) -> Iterable[Card]:
        return disagreement_cards(lines, context.subject.run)

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        return rating_plots(lines)


def import_ratings(run: Run, files: Sequence[RatingFile], directory: Path) -> Run:
    """Make the child run of several people's files. Raises `UsageError` for what doesn't fit."""
    raters = [held_against(run, file) for file in files]
    _check_raters(files)
    names = sorted(rated.rater for rated in raters)
    people = {"provider": "people", "requested": ", ".join(names)}
    subject = Ratings(run, sorted(raters, key=lambda rated: rated.rater))
    planned = PlannedTask(
        PeoplesRatings(),
        Context(subject, ArtefactStore(), SilentProgress()),
        comparability={"judge": people},
    )
    plan = Plan(
        tasks=[planned],
        directory=directory,
        identity={"parent": run.document["identity_sha256"], "ratings": _digest(subject)},
        comparability=run.document["comparability"],
        model=run.document["model"],
        saes=run.document["saes"],
        dataset=run.document["dataset"],
        judge=people | {"note": f"The judge that people stand beside is {_named(run)}."},
        seed=run.document["seed"],
        parent=run.id,
    )
    return execute(plan)


def _named(run: Run) -> str:
    judge = run.document["judge"]
    return f"{judge.get('requested', 'unknown')} ({judge.get('provider', 'unknown')})"


def _check_raters(files: Sequence[RatingFile]) -> None:
    """One file a person, one person a page, and all of one draw."""
    first = files[0]
    seen: dict[Any, RatingFile] = {}
    for file in files:
        if file.draw != first.draw:
            raise UsageError(f"{file.path} and {first.path} are of two exports; import each alone")
        for mark in (f"rater {file.rater}", f"page {file.page}"):
            if mark in seen:
                raise UsageError(f"{file.path} and {seen[mark].path} are both of {mark}; leave one")
            seen[mark] = file


def _digest(subject: Ratings) -> str:
    return sha256(
        [[r.rater, [[asked.key, rating] for asked, rating in r.answers]] for r in subject.raters]
    )


def _sample(line: Line, name: str, arm: str, outcome: Outcome) -> Sample:
    place = {key: line[key] for key in ("sae", "hookpoint", "latent", "concept")}
    return Sample(name, line["cluster"], arm, payload=outcome, **place)


def _answer(rater: str, asked: Asked, rating: Rating, subject: Ratings) -> Sample:
    name = f"rater/{rater}/{asked.part}/{asked.sample}"
    detail = {"rater": rater, "part": asked.part, "of": asked.sample}
    if asked.part == "check":
        right = None if rating is None else int(rating == asked.expected)
        return Sample(name, name, "check", payload=_scored("attention", right, **detail))
    line = subject.lines[asked.sample]
    arm = "again" if asked.part == "again" else line["arm"]
    return _sample(line, name, arm, _scored("consistent", rating, **detail))


def _verdict(line: Line) -> Outcome:
    """The judge's 0 or 1: the line's one score, whatever the arm calls it."""
    detail = {"rater": JUDGE, "part": JUDGE, "of": line["id"]}
    if line["status"] != "ok":
        return _scored(JUDGE, None, **detail)
    (verdict,) = line["scores"].values()
    covered = line["detail"].get("covered")
    confidence = sum(covered) / len(covered) if covered else float(verdict)
    return _scored(JUDGE, int(verdict), **detail, confidence=round(confidence, 4))


def _scored(score: str, value: int | None, **detail: Any) -> Outcome:
    if value is None:
        return Outcome.unscorable("no answer", **detail)
    return Outcome.ok({score: float(value)}, **detail)
