"""`report`: the page beside the run, or Markdown and JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from lmmsae_eval.harness.rundir import Run

Type = Callable[..., Result]
Make = Callable[..., Run]


def test_the_page_lies_beside_the_run_which_stays_as_it_was(
    type_command: Type, make_run: Make
) -> None:
    run = make_run()

    page = Path(type_command("report", run.path).output.strip())

    assert page == run.path.parent / f"{run.id}.html"
    assert run.id in page.read_text()
    assert run.damage() == []
    assert sorted(run.path.rglob("*")) == sorted(make_run().path.rglob("*"))


def test_the_page_goes_where_it_is_wanted(type_command: Type, make_run: Make) -> None:
    result = type_command("report", make_run().path, "-o", "pages/mine.html")

    assert result.output.strip() == "pages/mine.html"
    assert Path("pages/mine.html").is_file()


def test_markdown_and_json_go_to_stdout(type_command: Type, make_run: Make) -> None:
    run = make_run()

    assert type_command("report", run.path, "--format", "md").output.startswith("# ")
    assert json.loads(type_command("report", run.path, "--format", "json").output)
    assert [path.name for path in Path("runs").iterdir()] == [run.id]


def test_markdown_goes_to_a_file_when_one_is_named(type_command: Type, make_run: Make) -> None:
    run = make_run()

    type_command("report", run.path, "--format", "md", "-o", "run.md")

    shown = type_command("report", run.path, "--format", "md").output
    assert Path("run.md").read_text() == shown


def test_a_page_that_can_not_be_written_is_a_usage_error(
    type_command: Type, make_run: Make
) -> None:
    Path("file").touch()

    result = type_command("report", make_run().path, "-o", "file/page.html")

    assert result.exit_code == 2
    assert "choose another folder" in result.stderr


def test_one_file_to_send_holds_its_cards_itself(type_command: Type, make_run: Make) -> None:
    result = type_command("report", make_run().path, "--single-file", "-o", "sent.html")

    assert result.output.strip() == "sent.html"
    assert sorted(path.name for path in Path().glob("sent*")) == ["sent.html"]


def test_only_a_page_can_be_a_single_file(type_command: Type, make_run: Make) -> None:
    result = type_command("report", make_run().path, "--single-file", "--format", "md")

    assert result.exit_code == 2
    assert "md is one file anyway" in result.stderr
