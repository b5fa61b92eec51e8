"""The board's page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import InvalidSubmissionError, UsageError
from lmmsae_eval.leaderboards import build_site, submit

ATTACK = "<script>document.title='owned'</script>"


def lines(text: str) -> list[str]:
    """The entries' table rows as text."""
    rows = re.findall(r"<tr[^>]*><td class=\"num rank\">.*?</tr>", text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]


def test_every_entry_shows_rank_score_interval_n_coverage_and_conditions(
    make_run: Any, board: Path
) -> None:
    run = make_run()
    submit(run, board, tier="verified")
    page = build_site(board)
    assert page == board / "site" / "index.html"
    first = lines(page.read_text())[0]
    row = max(
        (r for r in run.metrics if r["arm"] == "main"),
        key=lambda r: (r["metric"] == "score", r["value"]),
    )
    assert first.startswith("1 toy-sae-")
    for fact in (
        f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]",
        "23 96% 23/24",
        "4 3.9",
        "testbed labels testbed verified",
        run.id,
        run.document["created"][:10],
        f"layer {row['layer']} {row['hookpoint']}",
    ):
        assert fact in first


def test_tied_entries_show_the_same_rank(make_run: Any, board: Path) -> None:
    for mean in (0.5, 0.501, 0.2):
        submit(make_run(mean), board)
    found = [line.split()[0] for line in lines(build_site(board).read_text())]
    assert found == ["1", "1", "1", "1", "5", "5"]


def test_each_protocol_has_a_table_of_its_own(make_run: Any, board: Path) -> None:
    submit(make_run(), board)
    submit(make_run(protocol="paper"), board)
    text = build_site(board).read_text()
    assert re.findall(r'<section id="([^"]*)"', text) == [
        *("invented.toy-v1-paper", "invented.toy-v1-strict", "how")
    ]
    assert 'href="#invented.toy-v1-paper"' in text


def test_the_same_board_gives_the_same_page(make_run: Any, board: Path) -> None:
    submit(make_run(), board)
    assert build_site(board).read_bytes() == build_site(board).read_bytes()


def test_a_changed_submission_is_not_shown(make_run: Any, board: Path) -> None:
    submission = submit(make_run(), board)
    file = board / submission.path / "run.json"
    file.write_text(file.read_text().replace('"value": 0.5', '"value": 0.9'))
    with pytest.raises(InvalidSubmissionError, match="LB013"):
        build_site(board)


def test_without_a_board_there_is_no_page(board: Path) -> None:
    with pytest.raises(UsageError, match="no leaderboard"):
        build_site(board)


def attacked(make_run: Any) -> Any:
    return make_run(
        model={"name": ATTACK},
        judge=ATTACK,
        dataset={"name": ATTACK, "revision": ATTACK},
        saes=[{"name": f"toy-sae-{i}", "k": ATTACK, "l0": [ATTACK]} for i in (1, 3)],
    )


def test_nothing_that_a_submitter_wrote_becomes_markup(make_run: Any, board: Path) -> None:
    submit(attacked(make_run), board)
    text = build_site(board).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8


def test_nothing_is_fetched_from_anywhere(make_run: Any, board: Path) -> None:
    submit(make_run(), board)
    text = build_site(board).read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#)", text)
    assert "url(" not in text


def test_the_page_opens_in_a_browser_without_a_word_on_the_console(
    browser: Any, make_run: Any, board: Path
) -> None:
    submit(attacked(make_run), board)
    submit(make_run(0.7), board)
    opened = browser.open(build_site(board))
    assert opened.console == []
    assert "<title>Leaderboard · lmmsae-eval</title>" in opened.dom
    assert len(lines(opened.dom)) == 4
