"""The cards of a page, in a real browser: loaded when wanted, filtered, sorted, linked to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.harness.results import SCHEMA_VERSION
from lmmsae_eval.harness.rundir import Run, load_run
from lmmsae_eval.reports.browser import MOST_INLINE
from lmmsae_eval.reports.html import write_report
from PIL import Image

MANY = 5000


def titles(dom: str) -> list[str]:
    """Of the cards that are drawn, in their order."""
    return re.findall(r'<article><h3><a href="#card=[^"]*">(.*?)</a>', dom, re.DOTALL)


def scripts(page: Path) -> list[Path]:
    return sorted(page.with_name(f"{page.stem}-files").glob("cards-*.js"))


@pytest.fixture(scope="session")
def page(run: Run) -> Path:
    return write_report(run)


def test_cards_lie_beside_the_page_as_calls_with_nothing_but_data(page: Path) -> None:
    (script,) = scripts(page)
    call = re.fullmatch(r"lmmsaeCards\((.*)\);\n", script.read_text(encoding="utf-8"))
    assert call
    held = json.loads(call[1])
    assert len(held) == 95
    linked = [source for card in held for _, source in card["pictures"]]
    assert len(linked) == 3 * 95
    assert all((page.parent / source).is_file() for source in linked)


def test_a_page_elsewhere_takes_its_pictures_along(run: Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "sent" / "my report.html")
    (script,) = scripts(page)
    sources = re.findall(r'"(my%20report-files/[^"]*png)"', script.read_text(encoding="utf-8"))
    assert len(sources) == 3 * 95
    assert len(list((tmp_path / "sent" / "my report-files").glob("*.png"))) == 3 * 95


def test_a_folder_gets_an_index_page(run: Run, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "site") == tmp_path / "site" / "index.html"
    assert (tmp_path / "site" / "index-files" / "cards-000.js").is_file()


def test_the_page_opens_in_a_browser_without_a_word_on_the_console(
    browser: Any, page: Path, run: Run
) -> None:
    opened = browser.open(page, "#q=latent")
    assert opened.console == []
    assert f"<title>{run.id} · lmmsae-eval</title>" in opened.dom
    assert 60 <= len(titles(opened.dom)) <= 95
    assert "95 of 95</output>" in opened.dom
    assert '<form id="filter">' in opened.dom


def test_the_browser_runs_nothing_that_an_explanation_says(browser: Any, page: Path) -> None:
    opened = browser.open(page, "#q=latent+7")
    assert "owned</title>" not in opened.dom
    assert "latent 7: &lt;script&gt;" in opened.dom


@pytest.mark.parametrize(
    ("state", "count", "said"),
    [
        ("#concept=colour", 17, "17 of 95"),
        ("#hookpoint=layer+4+(model.layers.3)&q=BOAT", 4, "4 of 95"),
        ("#q=latent+7", 3, "3 of 95"),
        ("#q=no+such+thing", 0, "0 of 95"),
        ("#card=toy%2F1", 1, "1 of 95"),
    ],
)
def test_the_filter_shows_what_its_address_asks_for(
    browser: Any, page: Path, state: str, count: int, said: str
) -> None:
    opened = browser.open(page, state)
    assert opened.console == []
    assert len(titles(opened.dom)) == count
    assert f"{said}</output>" in opened.dom
    assert ('<p id="nothing">' in opened.dom) == (count == 0)


def many(folder: Path, n: int) -> Run:
    """A run of nothing but cards: the last scores best, the first not at all."""
    folder.mkdir(parents=True)
    document = {"schema_version": SCHEMA_VERSION, "run_id": "r", "status": "partial", "metrics": []}
    task = {"name": "toy", "version": 1, "protocol": "strict", "metrics": [], "comparability": {}}
    (folder / "run.json").write_text(
        json.dumps({**document, "tasks": [task], "saes": [], "comparability": {}})
    )
    (folder / "cards").mkdir()
    Image.new("RGB", (48, 48), "teal").save(folder / "cards" / "one.png")
    cards = [
        {
            "title": f"latent {i}",
            "key": f"l/{i}",
            "text": {"explanation": f"thing {i % 7}"},
            "scores": {"IoU": i / n if i else None},
            "tags": {"concept": "object" if i % 2 else "part"},
            "images": [{"caption": "top", "path": "cards/one.png"}],
            "related": [{"key": f"l/{(i + 1) % n}", "name": f"latent {(i + 1) % n} .90"}],
            "histogram": {"title": "activation", "edges": [0.0, 0.5, 1.0], "counts": [i, 1]},
        }
        for i in range(n)
    ]
    (folder / "cards" / "toy.json").write_text(json.dumps(cards))
    return load_run(folder)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(many(tmp_path_factory.mktemp("crowd") / "r", MANY))


def test_of_five_thousand_cards_a_few_are_drawn_and_all_are_found(
    browser: Any, crowd: Path
) -> None:
    assert crowd.stat().st_size < 100_000
    assert len(scripts(crowd)) == 20
    opened = browser.open(crowd, "#concept=object")
    assert opened.console == []
    assert "2500 of 5000</output>" in opened.dom
    assert len(titles(opened.dom)) <= 180


def test_cards_are_sorted_by_a_score_those_without_it_last(browser: Any, crowd: Path) -> None:
    best = titles(browser.open(crowd, "#score=IoU").dom)
    assert best[:3] == ["latent 4999", "latent 4998", "latent 4997"]
    worst = titles(browser.open(crowd, "#score=IoU&order=lowest&high=0.001").dom)
    assert worst == [f"latent {i}" for i in range(1, 6)]


def test_a_card_has_an_address_a_histogram_and_its_neighbours(browser: Any, crowd: Path) -> None:
    dom = browser.open(crowd, "#card=toy%2Fl%2F4200").dom
    assert titles(dom) == ["latent 4200"]
    assert '<a href="#card=toy%2Fl%2F4201">latent 4201 .90</a>' in dom
    assert re.search(r'<i title="0.00 to 0.500: 4200" style="height: 100%;"></i>', dom)


def test_a_lost_card_file_is_named_on_the_page(browser: Any, tmp_path: Path) -> None:
    page = write_report(many(tmp_path / "r", 3))
    scripts(page)[0].unlink()
    dom = browser.open(page, "#q=latent").dom
    assert "r-files/cards-000.js can’t be read" in dom


def test_a_single_file_holds_some_cards_pictures_and_all(browser: Any, tmp_path: Path) -> None:
    page = write_report(many(tmp_path / "r", 1000), tmp_path / "one.html", single_file=True)
    moved = tmp_path / "mail" / "one.html"
    moved.parent.mkdir()
    page.rename(moved)
    opened = browser.open(moved, "#concept=part")
    assert opened.console == []
    assert f"{MOST_INLINE} of 1,000 cards" in opened.dom
    assert "data:image/png;base64," in opened.dom
    assert list(tmp_path.glob("one-*")) == []


def test_a_page_written_again_loses_the_cards_of_before(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report(many(tmp_path / "a", 600), page)
    write_report(many(tmp_path / "b", 10), page)
    assert [file.name for file in scripts(page)] == ["cards-000.js"]
