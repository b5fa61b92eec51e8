"""People rate explanations on a page; their ratings come back as a child run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from lmmsae_eval.harness.rundir import Run, load_run
from lmmsae_eval.reports.annotate import item_key

Type = Callable[..., Result]
Make = Callable[..., Run]


def _write(file: Path, run: Run, **changes: Any) -> Path:
    """A ratings file in which the person says 1 to the first 14 latents, as the judge does."""
    said = {i: int(i < 14) for i in range(24)} | {24: None}
    ratings = {item_key(run.id, f"main/{i}"): rating for i, rating in said.items()}
    document = {"kind": "lmmsae-eval ratings", "schema_version": 1, "run_id": run.id}
    document |= {"rater": "Ada", "ratings": ratings}
    file.write_text(json.dumps(document | changes))
    return file


def _value(run: Run, metric: str) -> Any:
    return next(
        row["value"] for row in run.metrics if (row["metric"], row["arm"]) == (metric, "main")
    )


def test_the_page_needs_no_other_file_and_shows_no_verdict(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()

    result = type_command("annotate", "export", run.path, "--n", "10")

    page = Path(result.output.strip())
    html = page.read_text()
    assert page == Path("annotate") / run.id / "index.html"
    assert html.count('src="data:image/png;base64,') == html.count("<fieldset") == 10
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    form = html.partition("<form")[2].partition("</form>")[0]
    assert not re.search("judge|foil|main/", form)


def test_a_lost_picture_is_one_line_and_leaves_no_page(type_command: Type, make_run: Make) -> None:
    run = make_run()
    for picture in run.path.rglob("*.png"):
        picture.unlink()

    result = type_command("annotate", "export", run.path, "-o", "page")

    assert result.exit_code == 2
    assert "has lost the picture" in result.stderr.splitlines()[-1]
    assert not Path("page").exists()


def test_an_explanation_is_text_on_the_page_not_markup(type_command: Type, make_run: Make) -> None:
    type_command("annotate", "export", make_run().path, "-o", "page")

    html = Path("page/index.html").read_text()
    assert "<b>boat" not in html
    assert "&lt;b&gt;boat" in html


def test_the_items_are_drawn_by_the_seed(type_command: Type, make_run: Make) -> None:
    run = make_run()

    def items(seed: int, to: str) -> list[str]:
        type_command("annotate", "export", run.path, "--n", "9", "--seed", seed, "-o", to)
        return [item["key"] for item in json.loads(Path(to, "items.json").read_text())["items"]]

    assert items(1, "a") == items(1, "b") != items(2, "c")


def test_ratings_become_a_child_run_with_the_agreement(type_command: Type, make_run: Make) -> None:
    parent = make_run(share=0.5)
    file = _write(Path("ratings.json"), parent)

    result = type_command("annotate", "import", file)

    child = load_run(result.output.splitlines()[-1].split()[-1])
    assert child.complete
    assert child.document["parent"] == parent.id
    assert child.document["judge"] == {"provider": "people", "requested": "Ada"}
    # The judge says 1 to latents 0 to 14, the person to 0 to 13; one is unscorable.
    assert _value(child, "consistent") == pytest.approx(14 / 24)
    assert _value(child, "agreement") == pytest.approx(23 / 24)
    chance = (14 * 15 + 10 * 9) / 24**2
    assert _value(child, "kappa") == pytest.approx((23 / 24 - chance) / (1 - chance))
    assert "24/25" in result.output


def test_the_parent_is_not_touched_and_a_second_import_is_the_same_run(
    type_command: Type, make_run: Make
) -> None:
    parent = make_run()
    file = _write(Path("ratings.json"), parent)

    first, second = (type_command("annotate", "import", file) for _ in range(2))

    assert first.output == second.output
    assert parent.damage() == []
    assert len(list(Path("runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "something else"}, "no ratings file"),
        ({"schema_version": 2}, "no ratings file"),
        ({"rater": " "}, "no rater"),
        ({"run_id": "../runs/x"}, "a path"),
        ({"run_id": "another"}, "unknown run"),
        ({"ratings": {"main/1": 2}}, "0, 1 or null"),
        ({"ratings": {"main/1": True}}, "0, 1 or null"),
        ({"ratings": {"main/1": None}}, "rates nothing"),
        ({"ratings": []}, "0, 1 or null"),
        ({"ratings": {"main/99": 1}}, "no item 'main/99'"),
    ],
)
def test_a_file_that_does_not_hold_up_is_refused_in_one_line(
    changes: dict[str, Any], said: str, type_command: Type, make_run: Make
) -> None:
    file = _write(Path("ratings.json"), make_run(), **changes)

    result = type_command("annotate", "import", file)

    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(list(Path("runs").iterdir())) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_what_is_no_json_object_is_refused(content: str, type_command: Type) -> None:
    Path("ratings.json").write_text(content)

    assert type_command("annotate", "import", "ratings.json").exit_code == 2


def test_a_run_without_consistency_cards_can_not_be_rated(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()
    (run.path / "cards" / "consistency.json").write_text("[]")

    result = type_command("annotate", "export", run.path)

    assert result.exit_code == 2
    assert "run the task 'consistency' first" in result.stderr


def test_what_is_clicked_in_a_browser_is_what_the_page_saves(
    type_command: Type, make_run: Make, browser: Any
) -> None:
    run = make_run()
    type_command("annotate", "export", run.path, "--n", "3", "-o", "page")
    page, items = Path("page/index.html"), json.loads(Path("page/items.json").read_text())["items"]
    click = """<script>
      ["1", "0", "null"].forEach((value, i) => sets[i].querySelector(`[value="${value}"]`).click());
      rater.value = "Ada"; rater.dispatchEvent(new Event("input"));
      document.getElementById("save").addEventListener("click", () => document.title =
        JSON.stringify(ratings()) + document.getElementById("count").textContent);
      document.getElementById("save").click();
    </script></body>"""
    page.write_text(page.read_text().replace("</body>", click))

    opened = browser.open(page)

    title = opened.dom.partition("<title>")[2].partition("</title>")[0]
    said = dict(zip((item["key"] for item in items), (1, 0, None), strict=True))
    assert json.loads(title.removesuffix("3 of 3 rated")) == said
    assert opened.console == []
