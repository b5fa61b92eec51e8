"""Scores as rows and grids."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.reports.matrix import matrices
from lmmsae_eval.reports.table import COLUMNS, number, score_rows, summary_rows


def test_the_summary_holds_the_headline_metric_of_the_main_arm_once_per_hookpoint(run: Run) -> None:
    rows = summary_rows(run)
    assert [row.layer for row in rows] == [2, 4, 6]
    assert {(row.metric, row.arm, row.concept) for row in rows} == {("score", "main", None)}


def test_all_layers_together_come_after_each_of_them(run: Run) -> None:
    whole = [{**row, "layer": None, "hookpoint": None} for row in run.metrics if row["layer"] == 2]
    metrics = [*whole, *run.metrics]
    with_whole = replace(run, document={**run.document, "metrics": metrics})

    assert [row.layer for row in summary_rows(with_whole)] == [2, 4, 6, None]
    for grid in matrices(score_rows(with_whole), "arm"):
        assert [column.layer for column in grid.columns] == [2, 4, 6, None]


def test_a_task_without_headline_metrics_shows_all_of_its_metrics(run: Run) -> None:
    tasks = [
        {**task, "metrics": [{**m, "headline": False} for m in task["metrics"]]}
        for task in run.tasks
    ]
    bare = replace(run, document={**run.document, "tasks": tasks})
    assert {row.metric for row in summary_rows(bare)} == {"score", "share"}


def test_every_line_of_the_table_says_both_layer_numbers_interval_n_coverage_and_null(
    run: Run,
) -> None:
    cells = dict(zip(COLUMNS, summary_rows(run)[1].cells(), strict=True))
    stored = next(r for r in run.metrics if r["layer"] == 4 and r["concept"] is None)
    assert cells["layer"] == "4 (model.layers.3)"
    assert cells["score"] == f"{stored['value']:.3f}"
    assert cells["95 % interval"] == f"[{stored['ci_low']:.3f}, {stored['ci_high']:.3f}]"
    assert cells["n"] == "31"
    assert cells["coverage"] == "86% (31/36)"
    assert cells["null"] == f"{stored['null']:.3f}"


def test_a_cell_with_too_small_an_n_prints_the_word_in_place_of_the_number(run: Run) -> None:
    small = [row for row in score_rows(run) if row.n_ok < 6 and row.metric == "score"]
    assert small
    for row in small:
        assert row.value is not None
        assert (row.score_text, row.interval_text) == ("insufficient", "–")


def test_another_note_is_a_caveat_and_leaves_the_number(run: Run) -> None:
    row = replace(score_rows(run)[0], value=0.5, note="judge shares its truth")
    assert (row.score_text, row.caveat) == ("0.500", "judge shares its truth")


def test_a_row_of_a_metric_that_its_task_never_declared_is_still_shown(run: Run) -> None:
    metrics = [{**run.metrics[0], "metric": "extra"}]
    (row,) = score_rows(replace(run, document={**run.document, "metrics": metrics}))
    assert (row.title, row.headline, row.range) == ("extra", False, (None, None))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.12345, "0.123"), (-1.5, "-1.500"), (12.3456, "12.35"), (1e6, "1e+06")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "bounds", "place"),
    [
        (0.25, (0.0, 1.0), 0.25),
        (0.0, (-1.0, 1.0), 0.5),
        (1.5, (0.0, 1.0), 1.0),
        (None, (0.0, 1.0), None),
        (0.5, (0.0, None), None),
        (0.5, (1.0, 1.0), None),
    ],
)
def test_a_value_has_a_place_on_a_bounded_range_only(
    run: Run,
    value: float | None,
    bounds: tuple[float | None, float | None],
    place: float | None,
) -> None:
    assert replace(score_rows(run)[0], range=bounds).place(value) == place


def test_concepts_go_down_and_hookpoints_across_with_the_whole_first(run: Run) -> None:
    (grid,) = matrices(score_rows(run), "concept")
    assert [column.label for column in grid.columns] == ["layer 2", "layer 4", "layer 6"]
    assert grid.rows[0][0] == "all"
    assert {label for label, _ in grid.rows[1:]} == {
        *("scene", "object", "part", "material", "texture", "colour")
    }
    assert all(row and row.arm == "main" for _, cells in grid.rows for row in cells)


def test_controls_stand_below_the_main_arm(run: Run) -> None:
    score, share = matrices(score_rows(run), "arm")
    assert [label for label, _ in score.rows] == ["main", "shuffled", "untrained"]
    assert (share.metric, share.headline, score.headline) == ("share", False, True)


def test_a_number_that_the_run_lacks_leaves_an_empty_cell(run: Run) -> None:
    rows = [r for r in score_rows(run) if (r.arm, r.layer) != ("shuffled", 4)]
    grid = matrices(rows, "arm")[0]
    assert [row is None for row in dict(grid.rows)["shuffled"]] == [False, True, False]


def test_two_saes_on_one_hookpoint_get_columns_of_their_own(run: Run) -> None:
    rows = score_rows(run)
    twins = [replace(row, sae="another") for row in rows if row.layer == 2]
    grid = matrices([*rows, *twins], "concept")[0]
    assert [column.sae for column in grid.columns] == [
        *("testbed-0", "another", "testbed-1", "testbed-2")
    ]


def test_a_run_without_splits_has_no_grids(run: Run) -> None:
    assert matrices(summary_rows(run), "concept") == []
    assert matrices(summary_rows(run), "arm") == []
