"""People rate explanations on pages; their ratings come back as a child run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from lmmsae_eval.harness.rundir import Run, load_run
from lmmsae_eval.reports.items import Draw, asked_of, items_sha256

Type = Callable[..., Result]
Make = Callable[..., Run]
Rule = Callable[[Any], int | None]


def judge_says(asked: Any) -> int:
    """The toy judge accepts main latents below 15; checks are answered as they should be."""
    if asked.part == "check":
        return int(asked.expected)
    arm, _, latent = asked.sample.partition("/")
    return int(arm == "main" and int(latent) < 15)


def saved(
    run: Run, page: int = 1, rater: str = "Ada", rule: Rule = judge_says, **draw: int
) -> Path:
    """The file that the page would save when everything is answered by the rule."""
    drawn = Draw(run.id, **{"n": 100, "raters": 3, "seed": 0, **draw})
    asked = asked_of(run, drawn, page)
    names = {"run_id": run.id, "n": drawn.n, "raters": drawn.raters, "seed": drawn.seed}
    document = {
        "kind": "lmmsae-eval ratings",
        "schema_version": 2,
        "draw": names,
        "page": page,
        "rater": rater,
        "items_sha256": items_sha256(asked),
        "ratings": [
            {"key": one.key, "explanation": one.explanation, "rating": rule(one), "seconds": 1.5}
            for one in asked
        ],
    }
    file = Path(f"{rater}-{page}.json")
    file.write_text(json.dumps(document))
    return file


def changed(file: Path, change: Callable[[Any], Any]) -> Path:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return file


def child_of(result: Result) -> Run:
    assert result.exit_code == 0, result.output
    return load_run(result.output.splitlines()[-1].split()[-1])


def value(run: Run, metric: str, arm: str = "main") -> Any:
    at = (metric, arm, None)
    return next(
        row["value"] for row in run.metrics if (row["metric"], row["arm"], row["concept"]) == at
    )


def test_there_is_a_page_for_each_rater_that_needs_no_other_file(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()

    result = type_command("annotate", "export", run.path, "--n", "10", "--raters", "2")

    pages = [Path(line) for line in result.output.splitlines()]
    assert pages == [Path("annotate") / run.id / f"rater-{i}.html" for i in (1, 2)]
    for page in pages:
        html = page.read_text()
        assert not re.findall(r'(?:src|href)="(?!data:)', html)
        assert "default-src 'none'" in html


def test_a_page_says_nothing_of_verdicts_or_kinds_of_items(
    type_command: Type, make_run: Make
) -> None:
    type_command("annotate", "export", make_run().path, "-o", "pages")

    html = Path("pages/rater-1.html").read_text()
    data = html.partition('id="data">')[2].partition("</script>")[0]
    assert not re.search("judge|foil|main/|check-|expected|again", data)
    assert len(set(re.findall('"key": "(.*?)"', data))) == data.count('"key"')


def test_an_explanation_is_text_on_the_page_not_markup(type_command: Type, make_run: Make) -> None:
    type_command("annotate", "export", make_run().path, "-o", "pages")

    assert "<b>boat" not in Path("pages/rater-1.html").read_text()


def test_all_raters_have_the_same_items_in_another_order_some_twice_and_some_checks(
    make_run: Make,
) -> None:
    run = make_run()
    draw = Draw(run.id, 40, 2, 0)
    one, two = (asked_of(run, draw, rater) for rater in (1, 2))

    def items(asked: Any, part: str) -> list[str]:
        return [item.sample for item in asked if item.part == part]

    assert Counter(item.part for item in one) == {"item": 40, "again": 8, "check": 2}
    assert sorted(items(one, "item")) == sorted(items(two, "item"))
    assert items(one, "item") != items(two, "item")
    assert {item.expected for item in one if item.part == "check"} == {0, 1}
    order = [item.sample for item in one]
    for sample in items(one, "again"):
        first = order.index(sample)
        assert order.index(sample, first + 1) - first > 3


def test_the_items_are_drawn_by_the_seed(make_run: Make) -> None:
    run = make_run()
    draws = [asked_of(run, Draw(run.id, 9, 1, seed), 1) for seed in (1, 1, 2)]

    assert draws[0] == draws[1] != draws[2]


def test_a_lost_picture_is_one_line_and_leaves_no_page(type_command: Type, make_run: Make) -> None:
    run = make_run()
    for picture in run.path.rglob("*.png"):
        picture.unlink()

    result = type_command("annotate", "export", run.path, "-o", "page")

    assert result.exit_code == 2
    assert "has lost the picture" in result.stderr.splitlines()[-1]
    assert not Path("page").exists()


def test_a_run_without_consistency_cards_can_not_be_rated(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()
    (run.path / "cards" / "consistency.json").write_text("[]")

    result = type_command("annotate", "export", run.path)

    assert result.exit_code == 2
    assert "run the task 'consistency' first" in result.stderr


def test_raters_files_become_a_child_run_that_agrees_where_they_do(
    type_command: Type, make_run: Make
) -> None:
    parent = make_run(share=0.5)
    files = [saved(parent, page, rater) for page, rater in enumerate(("Ada", "Bea", "Cem"), 1)]

    child = child_of(type_command("annotate", "import", *files))

    assert child.complete
    assert child.document["parent"] == parent.id
    judge = child.document["judge"]
    assert (judge["provider"], judge["requested"]) == ("people", "Ada, Bea, Cem")
    assert judge["note"] == "The judge that people stand beside is unknown (unknown)."
    for metric in ("human_alpha", "judge_alpha", "kappa", "agreement", "self_agreement"):
        assert value(child, metric) == 1, metric
    assert value(child, "attention") == value(child, "attention", "rater Ada") == 1
    assert value(child, "judge_balanced") == value(child, "ceiling") == 1
    # 60 items, two of each arm without a verdict: all are rated, but the judge has 28 an arm.
    assert value(child, "consistent") == pytest.approx(15 / 28)


def test_one_who_differs_is_seen_in_every_number(type_command: Type, make_run: Make) -> None:
    parent = make_run(share=0.5)

    def contrary(asked: Any) -> int:
        return 1 - judge_says(asked)

    files = [saved(parent, 1, "Ada"), saved(parent, 2, "Bea"), saved(parent, 3, "Cem", contrary)]
    child = child_of(type_command("annotate", "import", *files))

    assert value(child, "agreement") == pytest.approx(2 / 3)
    assert value(child, "human_agreement") == pytest.approx(1 / 3)
    assert value(child, "attention", "rater Cem") == 0
    assert value(child, "self_agreement", "rater Cem") == 1
    assert value(child, "judge_balanced") == 1


def test_whom_items_leave_in_doubt_is_left_out_of_them_and_shown_as_coverage(
    type_command: Type, make_run: Make
) -> None:
    parent = make_run()

    def doubtful(asked: Any) -> int | None:
        return None if asked.sample.endswith("3") else judge_says(asked)

    child = child_of(type_command("annotate", "import", saved(parent, rule=doubtful)))

    row = next(r for r in child.metrics if (r["metric"], r["arm"]) == ("consistent", "main"))
    assert (row["n_ok"], row["n_total"]) == (25, 30)
    assert child.document["counts"]["ratings"]["unscorable"] > 0


def test_the_parent_is_not_touched_and_a_second_import_is_the_same_run(
    type_command: Type, make_run: Make
) -> None:
    parent = make_run()
    file = saved(parent)

    first, second = (type_command("annotate", "import", file) for _ in range(2))

    assert first.output == second.output
    assert parent.damage() == []
    assert len(list(Path("runs").glob("*/run.json"))) == 2


def test_the_report_of_the_child_shows_disagreements_as_pictures(
    type_command: Type, make_run: Make
) -> None:
    parent = make_run(share=0.5)

    def wrong_of_five(asked: Any) -> int:
        return 1 if asked.sample == "foil/5" else judge_says(asked)

    child = child_of(type_command("annotate", "import", saved(parent, rule=wrong_of_five)))

    (card,) = child.cards("ratings")
    assert card["text"]["judge"] == "does not fit"
    assert card["text"]["people"] == "1 of 1 say that it fits"
    assert len(card["images"]) == 2
    reliable, confused = child.plots("ratings")
    assert reliable["kind"] == "reliability"
    counts = {point["series"]: point["y"] for point in confused["points"]}
    # 28 judged items an arm; people and judge differ in one foil.
    assert list(counts.values()) == [15, 0, 1, 40]
    assert child.path.with_name(f"{child.id}.html").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["ratings"].append({**d["ratings"][0], "key": "beef"}), "1 unknown: beef"),
        (lambda d: d["ratings"].append(d["ratings"][0]), "1 there twice: "),
        (lambda d: d["ratings"].pop(), "1 missing: "),
        (lambda d: d["ratings"][0].update(explanation="cat"), "1 edited: "),
        (lambda d: d.update(items_sha256="0"), "other pictures"),
        (lambda d: d.update(kind="something else"), "no ratings file"),
        (lambda d: d.update(schema_version=1), "another version"),
        (lambda d: d.update(rater=" "), "no rater"),
        (lambda d: d.update(page=4), "page 4, but there are 3"),
        (lambda d: d["draw"].update(run_id="../runs/x"), "a path"),
        (lambda d: d["draw"].update(run_id="another"), "unknown run"),
        (lambda d: d["draw"].update(n="all"), "what was drawn"),
        (lambda d: d.pop("draw"), "what was drawn"),
        (lambda d: d["ratings"][0].update(rating=2), "0, 1 or null"),
        (lambda d: d["ratings"][0].update(rating=True), "0, 1 or null"),
        (lambda d: d["ratings"][0].pop("rating"), "0, 1 or null"),
        (lambda d: d.update(ratings={}), "0, 1 or null"),
        (lambda d: [r.update(rating=None) for r in d["ratings"]], "rates nothing"),
    ],
)
def test_a_file_that_does_not_hold_up_is_refused_in_one_line_that_names_what(
    change: Callable[[Any], Any], said: str, type_command: Type, make_run: Make
) -> None:
    file = changed(saved(make_run()), change)

    result = type_command("annotate", "import", file)

    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(list(Path("runs").glob("*/run.json"))) == 1


def test_all_kinds_of_damage_are_named_at_once(type_command: Type, make_run: Make) -> None:
    def damage(document: Any) -> None:
        document["ratings"][0]["key"] = "beef"
        document["ratings"][1]["explanation"] = "cat"
        document["ratings"].append(document["ratings"][2])

    result = type_command("annotate", "import", changed(saved(make_run()), damage))

    for kind in ("1 unknown: beef", "1 missing", "1 edited", "1 there twice"):
        assert kind in result.stderr


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"page": 1, "rater": "Bea"}, "both of page 1"),
        ({"page": 2, "rater": "Ada"}, "both of rater Ada"),
        ({"page": 2, "rater": "Bea", "seed": 1}, "two exports"),
    ],
)
def test_two_files_of_one_page_one_person_or_two_exports_are_refused(
    second: dict[str, Any], said: str, type_command: Type, make_run: Make
) -> None:
    run = make_run()
    result = type_command("annotate", "import", saved(run), saved(run, **second))

    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_what_is_no_json_object_is_refused(content: str, type_command: Type) -> None:
    Path("ratings.json").write_text(content)

    assert type_command("annotate", "import", "ratings.json").exit_code == 2


def test_agreement_is_told_of_people_of_the_judge_and_of_both_together(
    type_command: Type, make_run: Make
) -> None:
    parent = make_run(share=0.125, latents=120)
    files = [saved(parent, page, name, n=80) for page, name in enumerate(("Ada", "Bea"), 1)]
    child = child_of(type_command("annotate", "import", *files))

    result = type_command("annotate", "agreement", child.path)
    found = json.loads(type_command("annotate", "agreement", child.path, "--json").output)

    for title in ("People among themselves", "Judge and people", "What more ratings would buy"):
        assert title in result.output
    assert "the judge may stand alone" in result.output
    assert [entry["n"] for entry in found["more_people"] if entry["of"] == "main"][:1]
    widths = [entry["with_judge"] for entry in found["more_people"] if entry["of"] == "main"]
    assert widths == sorted(widths, reverse=True)


def test_agreement_of_a_run_without_ratings_names_the_next_step(
    type_command: Type, make_run: Make
) -> None:
    result = type_command("annotate", "agreement", make_run().path)

    assert result.exit_code == 2
    assert "annotate import FILE..." in result.stderr


def test_two_hundred_items_are_rated_by_keyboard_with_a_reload_in_the_middle(
    type_command: Type, make_run: Make, tab: Any, tmp_path: Path
) -> None:
    run = make_run(latents=100)
    type_command("annotate", "export", run.path, "--n", "160", "-o", "pages")
    tab.open(Path("pages/rater-2.html"))
    tab.type("Ada L")
    tab.press("Enter")
    said: list[Any] = []

    def rate() -> None:
        key = "1?0"[len(said) % 3]
        said.append((tab.text("explanation"), {"1": 1, "0": 0, "?": None}[key]))
        tab.press(key)

    assert tab.text("count") == "1 of 200"
    for _ in range(100):
        rate()
    tab.press("m")
    assert tab.text("caption") == "the same pictures, whole"
    tab.press("m")
    assert tab.text("caption") == "the lit parts count"
    tab.press("Backspace")
    assert tab.text("count") == "100 of 200"
    assert tab.text("explanation") == said.pop()[0]
    tab.reload()
    assert tab.text("count") == "100 of 200"
    while len(said) < 200:
        rate()
    tab.press("s")

    file = tab.download()
    document = json.loads(file.read_text())
    assert [(r["explanation"], r["rating"]) for r in document["ratings"]] == said
    assert document["rater"] == "Ada L"
    assert tab.complaints() == []
    child = child_of(type_command("annotate", "import", file))
    rated = [line for line in child.lines("ratings") if line["detail"]["rater"] == "Ada L"]
    assert len(rated) == 200
