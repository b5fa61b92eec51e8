"""People's ratings as a child run: how often they find an explanation consistent, and how far they
agree with the judge of the parent run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore
from ..harness.identity import sha256
from ..harness.progress import SilentProgress
from ..harness.rundir import Run
from ..harness.runner import Plan, PlannedTask, execute
from ..harness.statistics import INSUFFICIENT, Interval, wilson
from ..harness.task import Context, Line, Metric, MetricRow, Outcome, Sample, Task, TaskSpec
from .annotate import TASK, Rating, Ratings, item_key


@dataclass(frozen=True, slots=True)
class Rated:
    """The subject of the task below: a person's ratings by sample id, and the lines rated."""

    rater: str
    ratings: Mapping[str, Rating]
    lines: Sequence[Line]


class PeoplesRatings(Task[Rated]):
    """Not registered: it is made from a file, never run on a model."""

    spec = TaskSpec(
        name="ratings",
        version=1,
        title="People's ratings of explanations",
        description="One person's 0/1 ratings of consistency cards, and agreement with the judge.",
        metrics=(
            Metric("consistent", "rated consistent", "Share rated 1.", True, "", (0, 1), True),
            Metric(
                "agreement",
                "agreement",
                "Share on which judge and person agree.",
                True,
                "",
                (0, 1),
                True,
            ),
            Metric("kappa", "Cohen's κ", "Agreement beyond chance.", True, "", (-1, 1), True),
        ),
        cluster="latent",
        unscorable="the person couldn't tell, or the judge has no verdict for agreement",
    )

    def samples(self, context: Context[Rated]) -> Iterable[Sample]:
        for line in context.subject.lines:
            place = {key: line[key] for key in ("arm", "sae", "hookpoint", "latent", "concept")}
            yield Sample(line["id"], line["cluster"], payload=line, **place)

    def evaluate(self, samples: Sequence[Sample], context: Context[Rated]) -> Sequence[Outcome]:
        return [_outcome(sample, context.subject) for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        arms = dict.fromkeys(line["arm"] for line in lines)
        rows = [
            _share("consistent", [line for line in lines if line["arm"] == arm], arm)
            for arm in arms
        ]
        return [*rows, _share("agreement", lines, "main"), _kappa(lines)]


def import_ratings(run: Run, ratings: Ratings, directory: Path) -> Run:
    """Make the child run. Raises `UsageError` for ratings of samples that the run doesn't have."""
    people = {"provider": "people", "requested": ratings.rater}
    planned = PlannedTask(
        PeoplesRatings(),
        Context(_rated(run, ratings), ArtefactStore(), SilentProgress()),
        comparability={"judge": people},
    )
    plan = Plan(
        tasks=[planned],
        directory=directory,
        identity={"parent": run.document["identity_sha256"], "ratings": sha256(asdict(ratings))},
        comparability=run.document["comparability"],
        model=run.document["model"],
        saes=run.document["saes"],
        dataset=run.document["dataset"],
        judge=people,
        seed=run.document["seed"],
        parent=run.id,
    )
    return execute(plan)


def _rated(run: Run, ratings: Ratings) -> Rated:
    lines = {item_key(run.id, line["id"]): line for line in run.lines(TASK)}
    if unknown := ratings.ratings.keys() - lines.keys():
        raise UsageError(f"{run.path} has no item {min(unknown)!r}; the ratings are of another run")
    by_sample = {lines[key]["id"]: rating for key, rating in ratings.ratings.items()}
    rated = [line for line in lines.values() if line["id"] in by_sample]
    return Rated(ratings.rater, by_sample, rated)


def _outcome(sample: Sample, rated: Rated) -> Outcome:
    rating = rated.ratings[sample.id]
    if rating is None:
        return Outcome.unscorable("the person couldn't tell", rater=rated.rater)
    line = sample.payload
    if line["status"] != "ok":
        return Outcome.ok({"consistent": rating}, rater=rated.rater)
    # The judge's 0 or 1 is the line's one score, whatever the arm calls it.
    (verdict,) = line["scores"].values()
    judged = int(verdict)
    scores = {"consistent": rating, "judge": judged, "agreement": int(rating == judged)}
    return Outcome.ok(scores, rater=rated.rater)


def _share(metric: str, lines: Sequence[Line], arm: str) -> MetricRow:
    values = [int(line["scores"][metric]) for line in lines if metric in line["scores"]]
    return _row(metric, wilson(sum(values), len(values)), len(lines), arm)


def _kappa(lines: Sequence[Line]) -> MetricRow:
    from statsmodels.stats.inter_rater import cohens_kappa

    table = [[0, 0], [0, 0]]
    for line in lines:
        if "judge" in line["scores"]:
            table[int(line["scores"]["consistent"])][int(line["scores"]["judge"])] += 1
    n = sum(map(sum, table))
    if not n or any(sum(side) == n for side in (*table, *zip(*table, strict=True))):
        # One of the two always says the same: chance explains everything, κ says nothing.
        return _row("kappa", Interval(None, None, None, None, n, n), len(lines), "main")
    kappa = cohens_kappa(table)
    interval = Interval(kappa.kappa, kappa.kappa_low, kappa.kappa_upp, "asymptotic", n, n)
    return _row("kappa", interval, len(lines), "main")


def _row(metric: str, interval: Interval, n_total: int, arm: str) -> MetricRow:
    return MetricRow(
        metric,
        interval.value,
        interval.n,
        n_total,
        interval.low,
        interval.high,
        interval.method,
        arm=arm,
        note="insufficient" if interval.n < INSUFFICIENT else None,
    )
