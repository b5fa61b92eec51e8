"""The report as a page, read as text and opened in a browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.results import SCHEMA_VERSION
from lmmsae_eval.harness.rundir import Run, load_run
from lmmsae_eval.reports.html import write_report


@pytest.fixture(scope="session")
def page(run: Run) -> Path:
    return write_report(run)


@pytest.fixture(scope="session")
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def visible(dom: str) -> list[str]:
    """Titles of the cards that the filter leaves."""
    articles = re.findall(r"<article ([^>]*)>\s*<h3>(.*?)</h3>", dom, re.DOTALL)
    return [title for attributes, title in articles if "hidden" not in attributes]


def test_the_page_lies_beside_the_run_and_the_sealed_run_is_untouched(run: Run, page: Path) -> None:
    assert page == run.path.resolve().with_name(f"{run.id}.html")
    assert run.damage() == []
    listed = json.loads((run.path / "manifest.json").read_text())["files"]
    there = {f.relative_to(run.path).as_posix() for f in run.path.rglob("*") if f.is_file()}
    assert there == {*listed, "manifest.json"}


def test_it_says_what_the_run_is(run: Run, text: str) -> None:
    for fact in ("testbed labels", "strict", "toy v3", "model.layers.3", "layer 4", "3.97", run.id):
        assert fact in text
    commit = run.document["harness"]["commit"]
    assert commit is None or commit[:12] in text
    assert run.document["identity_sha256"][:12] in text


def test_every_score_stands_with_interval_n_coverage_and_null(run: Run, text: str) -> None:
    rows = [r for r in run.metrics if r["metric"] == "score" and r["concept"] is None]
    for row in rows:
        interval = f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        assert f"{row['value']:.3f}" in text
        assert interval in text
        assert f"({row['n_ok']}/{row['n_total']})" in text


def test_small_cells_say_insufficient_in_place_of_a_number(run: Run, text: str) -> None:
    small = sum(row["note"] == "insufficient" for row in run.metrics)
    # Each is in the list of all numbers; those of the main arm also in the grid by concept.
    in_grid = sum(row["note"] == "insufficient" and row["arm"] == "main" for row in run.metrics)
    assert text.count('<span class="chip quiet">insufficient</span>') == small + in_grid


def test_samples_without_a_score_are_listed_with_their_reason(text: str) -> None:
    assert "the explainer said nothing" in text
    assert "ValueError: no mask for" in text
    assert "model.layers.3/main/5" in text


def test_it_says_what_its_numbers_are_not(text: str) -> None:
    limits = text[text.index('id="notes"') :]
    assert "embedded testbed" in limits
    assert "same true masks as iou" in limits
    assert "intervals resample whole clusters (latent)" in limits


def test_nothing_is_fetched_from_anywhere(text: str) -> None:
    addresses = re.findall(r"(?:src|href|action)=\"([^\"]*)\"", text)
    assert addresses
    assert not [a for a in addresses if "//" in a or ":" in a]
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")


def test_pictures_are_lazy_and_there(page: Path, text: str) -> None:
    images = re.findall(r"<img ([^>]*)>", text)
    assert len(images) == 3 * 95
    assert all('loading="lazy"' in image for image in images)
    sources = [re.search(r'src="([^"]*)"', image) for image in images]
    assert all(source and (page.parent / source[1]).is_file() for source in sources)


def test_a_page_elsewhere_takes_its_pictures_along(run: Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "sent" / "my report.html")
    sources = re.findall(r'<img [^>]*src="([^"]*)"', page.read_text(encoding="utf-8"))
    assert len(sources) == 3 * 95
    assert all(source.startswith("my%20report-pictures/") for source in sources)
    assert len(list((tmp_path / "sent" / "my report-pictures").iterdir())) == 3 * 95


def test_an_explanation_never_becomes_markup(text: str) -> None:
    assert "<script>document" not in text
    assert "<img src=x" not in text
    assert "<b>tower" not in text
    assert "&lt;script&gt;document.title=" in text


def stored(folder: Path, **changes: Any) -> Run:
    """A run of nothing but its document and one card."""
    folder.mkdir()
    document = {"schema_version": SCHEMA_VERSION, "run_id": "r", "status": "partial", "metrics": []}
    task = {"name": "toy", "version": 1, "protocol": "strict", "metrics": [], "comparability": {}}
    (folder / "run.json").write_text(
        json.dumps({**document, "tasks": [task], "saes": [], "comparability": {}})
    )
    card = {"title": "t", "text": {}, "scores": {}, "tags": {}, "images": [], **changes}
    (folder / "cards").mkdir()
    (folder / "cards/toy.json").write_text(json.dumps([card]))
    return load_run(folder)


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/hostname", "javascript:alert(1)", "run.json", "cards/none.png"]
)
def test_a_card_can_not_name_a_picture_outside_of_its_run(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    run = stored(tmp_path / "r", images=[{"caption": "c", "path": path}])
    with pytest.raises(UsageError, match="picture"):
        write_report(run)


def test_a_card_can_not_reach_out_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    run = stored(tmp_path / "r", images=[{"caption": "c", "path": "link.png"}])
    (run.path / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UsageError, match="no picture of the run"):
        write_report(run)


def test_a_run_that_has_just_begun_has_a_page_already(tmp_path: Path) -> None:
    text = write_report(stored(tmp_path / "r")).read_text(encoding="utf-8")
    assert "no metrics yet" in text
    assert "This run has not ended" in text


def test_half_a_surrogate_pair_in_a_models_answer_does_no_harm(tmp_path: Path) -> None:
    text = write_report(stored(tmp_path / "r", title="a \ud83d boat")).read_text(encoding="utf-8")
    assert "a ? boat" in text


def test_a_limited_run_says_so(run: Run, tmp_path: Path) -> None:
    limited = replace(run, document={**run.document, "status": "limited", "limit": 3})
    text = write_report(limited, tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<span class="chip limited">limited</span>' in text
    assert "limit 3" in text


@pytest.fixture(scope="session")
def opened(browser: Any, page: Path) -> Any:
    """The page in a browser."""
    return browser.open(page)


def test_the_page_opens_in_a_browser_without_a_word_on_the_console(opened: Any, run: Run) -> None:
    assert opened.console == []
    assert f"<title>{run.id} · lmmsae-eval</title>" in opened.dom
    assert len(visible(opened.dom)) == 95
    assert '<form id="filter">' in opened.dom


def test_the_browser_runs_nothing_that_an_explanation_says(opened: Any) -> None:
    assert "owned</title>" not in opened.dom
    assert "latent 7: &lt;script&gt;" in opened.dom


def test_even_a_script_that_got_onto_the_page_would_not_run(
    browser: Any, page: Path, text: str
) -> None:
    attacked = page.with_name("attacked.html")
    attack = "<script>document.title='owned'</script>"
    attacked.write_text(text.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    opened = browser.open(attacked)
    assert "owned</title>" not in opened.dom
    assert any("Content Security Policy" in line for line in opened.console)


@pytest.mark.parametrize(
    ("state", "count", "said"),
    [
        ("#concept=colour", 17, "17 of 95"),
        ("#hookpoint=layer+4+(model.layers.3)&q=BOAT", 4, "4 of 95"),
        ("#q=latent+7", 3, "3 of 95"),
        ("#q=no+such+thing", 0, "0 of 95"),
    ],
)
def test_the_filter_shows_what_its_address_asks_for(
    browser: Any, page: Path, state: str, count: int, said: str
) -> None:
    opened = browser.open(page, state)
    assert opened.console == []
    assert len(visible(opened.dom)) == count
    assert f"{said}</output>" in opened.dom
    assert ('<p id="nothing">' in opened.dom) == (count == 0)
