"""Ranks and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.leaderboards import load_board, submit
from lmmsae_eval.leaderboards.board import Submission, stored_document
from lmmsae_eval.leaderboards.ranking import Entry, Table, ranked, tables

SUBMISSION = Submission("r", "s", "community", "2026-01-01", "0" * 64)


def entry(name: str, value: float | None, low: float | None, high: float | None) -> Entry:
    row = {"value": value, "ci_low": low, "ci_high": high, "note": None}
    facts = {"submission": SUBMISSION, "hookpoint": None, "layer": None, "k": None, "l0": None}
    return Entry(sae=name, model="m", judge="j", created="", scores={"score": row}, **facts)


def around(name: str, value: float, half: float = 0.05) -> Entry:
    return entry(name, value, value - half, value + half)


def ranks(entries: list[Entry], higher_is_better: bool | None = True) -> dict[str, int | None]:
    return {e.sae: e.rank for e in ranked(entries, "score", higher_is_better)}


def test_entries_that_can_not_be_told_apart_share_a_rank() -> None:
    entries = [around("c", 0.2), around("a", 0.52), around("b", 0.5), around("d", 0.1, 0.2)]
    assert ranks(entries) == {"a": 1, "b": 1, "c": 3, "d": 3}


def test_what_no_interval_beats_is_first_however_low_its_value() -> None:
    assert ranks([around("a", 0.9), around("wide", 0.5, 0.5)]) == {"a": 1, "wide": 1}


def test_where_less_is_better_the_lowest_is_first() -> None:
    assert list(ranks([around("a", 0.9), around("b", 0.1)], False).items()) == [("b", 1), ("a", 2)]


def test_touching_intervals_are_a_tie() -> None:
    assert ranks([entry("a", 0.6, 0.5, 0.7), entry("b", 0.4, 0.3, 0.5)]) == {"a": 1, "b": 1}


def test_without_interval_value_or_direction_there_is_no_rank() -> None:
    entries = [around("a", 0.5), entry("b", 0.9, None, None), entry("c", None, None, None)]
    assert ranks(entries) == {"a": 1, "b": None, "c": None}
    assert set(ranks(entries, None).values()) == {None}


def test_a_cell_with_too_small_an_n_is_not_ranked() -> None:
    small = around("a", 0.9)
    small.scores["score"]["note"] = "insufficient"  # type: ignore[index]
    assert ranks([small, around("b", 0.1)]) == {"b": 1, "a": None}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.3)), min_size=1, max_size=12))
def test_ranks_respect_intervals_and_begin_with_one(values: list[tuple[float, float]]) -> None:
    entries = [around(str(i), value, half) for i, (value, half) in enumerate(values)]
    found = ranked(entries, "score", True)
    assert [e.rank for e in found] == sorted(e.rank or 0 for e in found)
    assert found[0].rank == 1
    for better in found:
        for worse in found:
            if better.scores["score"]["ci_low"] > worse.scores["score"]["ci_high"]:
                assert (better.rank or 0) < (worse.rank or 0)


def tables_of(board: Path) -> list[Table]:
    return tables((s, stored_document(board, s)) for s in load_board(board))


def test_protocols_are_never_mixed(make_run: Any, board: Path) -> None:
    submit(make_run(0.3), board)
    submit(make_run(0.6, protocol="paper"), board)
    paper, strict = tables_of(board)
    assert (paper.protocol, strict.protocol) == ("paper", "strict")
    assert {e.rank for table in (paper, strict) for e in table.groups[0].entries} == {1}


def test_versions_are_never_mixed_and_the_newest_is_first(
    make_run: Any, board: Path, install_version_2: Any
) -> None:
    submit(make_run(0.3), board)
    submit(make_run(0.6, task=install_version_2()), board)
    assert [table.version for table in tables_of(board)] == [2, 1]


def test_another_judge_is_another_list(make_run: Any, board: Path) -> None:
    for judge in ("labels", "openai/gpt-4o", None):
        submit(make_run(judge=judge), board)
    (table,) = tables_of(board)
    assert [(g.conditions, g.entries[0].judge) for g in table.groups] == [
        ("testbed on testbed at r1, judged by testbed labels", "testbed labels"),
        ("testbed on testbed at r1, judged by testbed openai/gpt-4o", "testbed openai/gpt-4o"),
        ("testbed on testbed at r1", None),
    ]


@pytest.mark.parametrize("part", ["model", "data revision"])
def test_what_is_not_comparable_is_listed_apart(make_run: Any, board: Path, part: str) -> None:
    submit(make_run(0.3), board)
    submit(make_run(0.6, comparability={part: "another"}), board)
    (table,) = tables_of(board)
    assert [[e.rank for e in group.entries] for group in table.groups] == [[1, 1], [1, 1]]


def test_comparable_runs_are_ranked_together_by_sae_and_hookpoint(
    make_run: Any, board: Path
) -> None:
    low, high = submit(make_run(0.3), board), submit(make_run(0.6), board)
    (table,) = tables_of(board)
    (group,) = table.groups
    found = [(e.submission.run_id, e.rank) for e in group.entries]
    assert found == [(high.run_id, 1)] * 2 + [(low.run_id, 3)] * 2
    assert {(e.sae, e.layer, e.k, e.l0) for e in group.entries} == {
        ("toy-sae-1", 2, 4, 3.9),
        ("toy-sae-3", 4, 4, 3.9),
    }


def test_controls_are_no_entries(make_run: Any, board: Path) -> None:
    submit(make_run(), board)
    (group,) = tables_of(board)[0].groups
    assert len(group.entries) == 2


def test_the_ranking_metric_is_a_headline_with_a_direction(make_run: Any, board: Path) -> None:
    submit(make_run(), board)
    assert [metric["name"] for metric in tables_of(board)[0].metrics] == ["score"]
