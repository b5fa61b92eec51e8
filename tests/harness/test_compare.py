"""Two runs: better, worse, tied, too small to say, or not to be compared at all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import NotComparableError, UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.compare import Comparison, compare
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

Scored = tuple[Sample, float | None]


class Given(Task[Sequence[Scored]]):
    """Scores are given; None is unscorable."""

    spec = TaskSpec(
        name="toy/given",
        version=1,
        title="Given",
        description="",
        metrics=(Metric("score", "Score", "", True), Metric("cost", "Cost", "", False)),
        cluster="item",
    )

    def samples(self, context: Context[Sequence[Scored]]) -> Iterable[Sample]:
        return [replace(sample, payload=value) for sample, value in context.subject]

    def evaluate(self, samples: Sequence[Sample], context: Any) -> Sequence[Outcome]:
        return [_outcome(sample.payload) for sample in samples]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        return []


class Renamed(Given):
    spec = replace(Given.spec, name="toy/renamed")


class Bumped(Given):
    spec = replace(Given.spec, version=2)


def _outcome(value: float | None) -> Outcome:
    if value is None:
        return Outcome.unscorable("nothing")
    return Outcome.ok({"score": value, "cost": value, "undeclared": value})


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """A complete run with these scores."""

    def run(
        scored: Sequence[Scored],
        task: Task[Any] | None = None,
        comparability: dict[str, Any] | None = None,
        judge: str = "j",
        **fields: Any,
    ) -> Run:
        context: Context[Any] = Context(scored, ArtefactStore(), SilentProgress())
        planned = PlannedTask(task or Given(), context, comparability={"judge": judge})
        identity = {
            "scores": [[sample.id, sample.hookpoint, value] for sample, value in scored],
            "judge": judge,
        }
        shared = comparability or {"data": "d"}
        return execute(Plan([planned], tmp_path, {**identity, **shared}, shared, **fields))

    return run


def questions(values: Sequence[float | None], hookpoint: str = "layers.1") -> list[Scored]:
    return [(Sample(f"q{i}", f"f{i}", hookpoint=hookpoint), v) for i, v in enumerate(values)]


def latents(values: Sequence[float], sae: str = "s") -> list[Scored]:
    found = [
        Sample(
            f"latent {i}", f"latent {i}", sae=sae, hookpoint="layers.1", latent=i, concept="part"
        )
        for i in range(len(values))
    ]
    return list(zip(found, values, strict=True))


def row(comparison: Comparison, metric: str = "score") -> Any:
    (found,) = [row for row in comparison.rows if row.metric == metric]
    return found


def noise(n: int, seed: int, shift: float = 0.0) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(shift, 1) for _ in range(n)]


def test_a_run_compared_with_itself_is_tied_everywhere(make: Callable[..., Run]) -> None:
    run = make(questions(noise(40, 0)))
    comparison = compare(run, run)

    assert {r.outcome for r in comparison.rows} == {"tied"}
    assert row(comparison).difference == 0


def test_same_questions_are_paired_and_a_small_steady_gain_is_found(
    make: Callable[..., Run],
) -> None:
    before = noise(40, 0)
    gains = [0.1 + 0.05 * x for x in noise(40, 1)]
    found = compare(
        make(questions(before)),
        make(questions([x + y for x, y in zip(before, gains, strict=True)])),
    )

    assert row(found).outcome == "better"
    assert row(found, "cost").outcome == "worse"
    assert row(found).n_pairs == 40
    assert row(found).ci_low > 0
    assert row(found).test == "sign flips of clusters"
    assert found.family == 2


def test_right_and_wrong_answers_are_compared_after_mcnemar(make: Callable[..., Run]) -> None:
    # 9 answers gained, 2 lost: the textbook's p of .065.
    before = [0.0] * 9 + [1.0] * 2 + [1.0] * 30
    after = [1.0] * 9 + [0.0] * 2 + [1.0] * 30
    found = row(compare(make(questions(before)), make(questions(after))))

    assert found.test == "McNemar, exact"
    assert found.p == pytest.approx(0.0654, abs=1e-4)
    assert found.outcome == "tied"


def test_latents_of_different_saes_are_not_paired_though_their_ids_agree(
    make: Callable[..., Run],
) -> None:
    a = make(
        latents(noise(40, 0)),
        saes=[{"name": "s", "hookpoint": "layers.1", "weights_sha256": "one"}],
    )
    b = make(
        latents(noise(40, 1, shift=2)),
        saes=[{"name": "s", "hookpoint": "layers.1", "weights_sha256": "two"}],
    )
    found = row(compare(a, b))

    assert found.n_pairs == 0
    assert found.test == "cluster permutation"
    assert found.outcome == "better"


def test_latents_of_the_same_sae_are_paired(make: Callable[..., Run]) -> None:
    saes = [{"name": "s", "hookpoint": "layers.1", "weights_sha256": "one"}]
    a, b = make(latents(noise(40, 0)), saes=saes), make(latents(noise(40, 1)), saes=saes)

    assert row(compare(a, b)).n_pairs == 40


def test_only_common_questions_are_paired_and_unscorable_ones_are_left_out(
    make: Callable[..., Run],
) -> None:
    values: list[float | None] = [*noise(39, 0)]
    a, b = make(questions([*values, None])), make(questions([None, *values[1:], 1.0]))
    found = row(compare(a, b))

    assert (found.n_a, found.n_b, found.n_pairs) == (38, 38, 38)


def test_few_clusters_are_insufficient_and_no_test_is_spent_on_them(
    make: Callable[..., Run],
) -> None:
    comparison = compare(make(questions([0.0] * 10)), make(questions([1.0] * 10)))

    assert row(comparison).outcome == "insufficient"
    assert comparison.family == 0


def test_more_tests_need_more_evidence(make: Callable[..., Run]) -> None:
    def cells(shift: float, n: int) -> list[Scored]:
        return [
            (Sample(f"{c} {i}", f"{c} {i}", concept=str(c)), x)
            for c in range(n)
            for i, x in enumerate(noise(30, 31 * c + int(shift), shift if c == 0 else 0))
        ]

    one = compare(make(cells(0, 1)), make(cells(1, 1)), by="concept")
    many = compare(make(cells(0, 12)), make(cells(1, 12)), by="concept")

    assert one.rows[0].p == many.rows[0].p
    assert many.rows[0].p_corrected > one.rows[0].p_corrected


def test_cells_are_matched_by_what_is_asked_for(make: Callable[..., Run]) -> None:
    a = make(questions(noise(30, 0), "model.layers.1"))
    b = make(questions(noise(30, 0), "model.layers.3"))

    with pytest.raises(NotComparableError, match="no hookpoint in common"):
        compare(a, b)
    assert row(compare(a, b, by="task")).cell == "toy/given"


def test_layers_are_called_by_their_published_number(make: Callable[..., Run]) -> None:
    run = make(questions(noise(30, 0), "model.layers.24"))
    assert row(compare(run, run, by="layer")).cell == "25"


def test_controls_are_compared_only_by_arm(make: Callable[..., Run]) -> None:
    scored = [
        (replace(s, id=f"{s.id} {arm}", arm=arm), v)
        for arm in ("main", "shuffled")
        for s, v in questions(noise(30, 0))
    ]
    run = make(scored)

    assert row(compare(run, run)).n_a == 30
    assert {r.cell for r in compare(run, run, by="arm").rows} == {"main", "shuffled"}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"comparability": {"data": "e"}}, "data differs, 'd' and 'e'"),
        ({"task": Bumped()}, "toy/given: version differs, 1 and 2"),
        ({"judge": "k"}, "toy/given: judge differs, 'j' and 'k'"),
        ({"limit": 25}, "limit differs, None and 25"),
        ({"task": Renamed()}, "no task in common"),
    ],
)
def test_runs_that_differ_in_more_than_the_sae_are_refused_with_the_reason(
    make: Callable[..., Run], other: dict[str, Any], reason: str
) -> None:
    scored = questions(noise(30, 0))

    with pytest.raises(NotComparableError, match=reason) as caught:
        compare(make(scored), make(scored, **other))
    assert caught.value.exit_code == 5


def test_a_partial_run_is_refused(make: Callable[..., Run]) -> None:
    run = make(questions(noise(30, 0)))
    (run.path / "manifest.json").unlink()

    with pytest.raises(NotComparableError, match="is partial"):
        compare(run, run)


def test_an_unknown_grouping_is_a_usage_error(make: Callable[..., Run]) -> None:
    run = make(questions(noise(30, 0)))
    with pytest.raises(UsageError, match="can't compare by 'colour'"):
        compare(run, run, by="colour")


def test_every_reason_for_a_refusal_is_named(make: Callable[..., Run]) -> None:
    scored = questions(noise(30, 0))

    with pytest.raises(NotComparableError, match=r"data differs.*; toy/given: judge differs"):
        compare(make(scored), make(scored, judge="k", comparability={"data": "e"}))


def test_all_other_runs_are_compared_with_the_first_as_one_family(make: Callable[..., Run]) -> None:
    runs = [make(questions(noise(40, seed))) for seed in range(3)]
    comparison = compare(*runs)

    assert comparison.runs == [run.id for run in runs]
    assert comparison.family == 4
    assert {r.run for r in comparison.rows} == {run.id for run in runs[1:]}


def test_one_run_is_no_comparison(make: Callable[..., Run]) -> None:
    with pytest.raises(UsageError, match="needs two runs"):
        compare(make(questions(noise(30, 0))))


def test_the_metrics_asked_for_are_the_family(make: Callable[..., Run]) -> None:
    run = make(questions(noise(30, 0)))

    assert compare(run, run, metrics=["cost"]).family == 1
    assert compare(run, run, metrics=["all"]).family == 2
    with pytest.raises(NotComparableError, match="--metric all"):
        compare(run, run, metrics=["undeclared"])


def test_with_a_margin_tied_is_a_finding_and_too_little_data_undecided(
    make: Callable[..., Run],
) -> None:
    before = noise(100, 0)
    a = make(questions(before))
    b = make(questions([x + 0.01 * y for x, y in zip(before, noise(100, 1), strict=True)]))

    assert row(compare(a, b, margin=0.1)).outcome == "tied"
    assert row(compare(a, make(questions(noise(100, 2))), margin=0.1)).outcome == "undecided"
    assert row(compare(a, b)).p_equivalent is None


def test_a_difference_within_the_margin_is_tied_however_sure(make: Callable[..., Run]) -> None:
    before = noise(100, 0)
    a, b = make(questions(before)), make(questions([x + 0.01 for x in before]))

    assert row(compare(a, b)).outcome == "better"
    assert row(compare(a, b, margin=0.1)).outcome == "tied"


@pytest.mark.parametrize("options", [{"margin": 0.0}, {"margin": -1.0}, {"correction": "hope"}])
def test_options_without_meaning_are_usage_errors(
    make: Callable[..., Run], options: dict[str, Any]
) -> None:
    run = make(questions(noise(30, 0)))
    with pytest.raises(UsageError):
        compare(run, run, **options)


def test_benjamini_and_hochberg_let_more_through_than_holm(make: Callable[..., Run]) -> None:
    def cells(seed: int, shift: float) -> list[Scored]:
        return [
            (Sample(f"{c} {i}", f"{c} {i}", concept=str(c)), x)
            for c in range(6)
            for i, x in enumerate(noise(30, 31 * c + seed, shift))
        ]

    a, b = make(cells(0, 0)), make(cells(1, 0.4))
    holm = compare(a, b, by="concept", metrics=["score"])
    bh = compare(a, b, by="concept", metrics=["score"], correction="bh")

    assert all(x.p_corrected >= y.p_corrected for x, y in zip(holm.rows, bh.rows, strict=True))
    assert sum(x.p_corrected for x in holm.rows) > sum(x.p_corrected for x in bh.rows)


def test_samples_that_one_run_alone_has_are_listed(make: Callable[..., Run]) -> None:
    values = noise(40, 0)
    found = row(compare(make(questions([*values, None])), make(questions([*values, 1.0]))))

    assert (found.unpaired_a, found.unpaired_b) == ([], ["q40"])


def test_runs_may_be_named_by_their_folders_and_the_result_is_json(
    make: Callable[..., Run],
) -> None:
    run = make(questions(noise(30, 0)))
    document = compare(run.path, str(run.path)).to_json()

    assert json.loads(json.dumps(document))["family"] == 2
    assert document["rows"][0]["outcome"] == "tied"


class Judged(Given):
    """Youden's J as `consistency` has it: a latent's own explanation and a foil, each 0 or 1."""

    spec = replace(
        Given.spec,
        name="toy/judged",
        metrics=(
            Metric("youden_j", "J", "", True, headline=True),
            Metric("tpr", "TPR", "", True, headline=True),
        ),
    )

    def evaluate(self, samples: Sequence[Sample], context: Any) -> Sequence[Outcome]:
        return [
            Outcome.ok({"tpr" if sample.arm == "main" else "fpr": sample.payload})
            for sample in samples
        ]

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        from lmmsae_eval.tasks.features.verdicts import verdict_rows

        return [row for row in verdict_rows(lines) if row.metric == "youden_j"]


def judged(true: Sequence[float], foils: Sequence[float]) -> list[Scored]:
    """Latents at one layer, each with its verdict on the true item and on the foil."""
    return [
        (Sample(f"{i}/{arm}", str(i), arm, "s", "layers.1", i, "part"), value)
        for arm, values in (("main", true), ("foil", foils))
        for i, value in enumerate(values)
    ]


def test_youdens_j_is_no_mean_of_samples_and_is_tested_by_its_intervals(
    make: Callable[..., Run],
) -> None:
    good = make(judged([1.0] * 95 + [0.0] * 5, [0.0] * 95 + [1.0] * 5), Judged())
    poor = make(judged([1.0] * 95 + [0.0] * 5, [0.0] * 40 + [1.0] * 60), Judged())

    found = compare(good, poor)

    j = row(found, "youden_j")
    assert (j.a, j.b) == (pytest.approx(0.9), pytest.approx(0.35))
    assert (j.outcome, j.test, j.cell, j.n_pairs) == ("worse", "stored intervals", "layers.1", 0)
    assert j.ci_low < -0.55 < j.ci_high < 0
    assert row(found, "tpr").outcome == "tied"
    assert found.family == 2
    assert found.notes == []


@pytest.mark.parametrize(
    ("by", "cell"), [("layer", "2"), ("sae", "s"), ("concept", "part"), ("task", "toy/judged")]
)
def test_youdens_j_is_compared_by_whatever_it_has_one_number_of(
    make: Callable[..., Run], by: str, cell: str
) -> None:
    run = make(judged([1.0] * 30, [0.0] * 20 + [1.0] * 10), Judged())

    j = row(compare(run, run, by=by), "youden_j")

    assert (j.cell, j.outcome, j.difference) == (cell, "tied", 0)


def test_youdens_j_of_two_saes_at_one_layer_is_said_to_be_in_no_test(
    make: Callable[..., Run],
) -> None:
    first = judged([1.0] * 30, [0.0] * 30)
    other = [(replace(s, id=f"o{s.id}", cluster=f"o{s.cluster}", sae="o"), v) for s, v in first]
    run = make([*first, *other], Judged())

    found = compare(run, run)

    assert [r.metric for r in found.rows] == ["tpr"]
    (note,) = found.notes
    assert "toy/judged youden_j has neither samples of the main arm nor one interval" in note


def test_youdens_j_of_too_few_latents_is_insufficient(make: Callable[..., Run]) -> None:
    run = make(judged([1.0] * 6, [0.0] * 6), Judged())

    assert row(compare(run, run), "youden_j").outcome == "insufficient"
