"""The report as a page, read as text and opened in a browser."""

from __future__ import annotations

import html
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


def test_nothing_is_fetched_from_anywhere(page: Path, text: str) -> None:
    addresses = re.findall(r"(?:src|href|action)=\"([^\"]*)\"", text)
    assert addresses
    assert not [a for a in addresses if "//" in a or ":" in a]
    assert all((page.parent / source).is_file() for source in sources(text))
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")


def test_an_explanation_never_becomes_markup(text: str) -> None:
    assert "<script>document" not in text
    assert "<img src=x" not in text
    assert "<b>tower" not in text
    assert "&lt;script&gt;document.title=" in text  # in a failure's reason


def sources(text: str) -> list[str]:
    """What the page's script will load."""
    listed = re.search(r'data-sources="([^"]*)"', text)
    assert listed
    loaded: list[str] = json.loads(html.unescape(listed[1]))
    assert loaded
    return loaded


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
    page = write_report(stored(tmp_path / "r", title="a \ud83d boat"))
    cards = page.parent / sources(page.read_text(encoding="utf-8"))[0]
    assert "a ? boat" in cards.read_text(encoding="utf-8")


def test_a_limited_run_says_so(run: Run, tmp_path: Path) -> None:
    limited = replace(run, document={**run.document, "status": "limited", "limit": 3})
    text = write_report(limited, tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<span class="chip limited">limited</span>' in text
    assert "limit 3" in text


def test_even_a_script_that_got_onto_the_page_would_not_run(
    browser: Any, page: Path, text: str
) -> None:
    attacked = page.with_name("attacked.html")
    attack = "<script>document.title='owned'</script>"
    attacked.write_text(text.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    opened = browser.open(attacked)
    assert "owned</title>" not in opened.dom
    assert any("Content Security Policy" in line for line in opened.console)
