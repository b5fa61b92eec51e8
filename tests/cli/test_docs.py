"""The documentation says what is so: its blocks are run, its tables are compared with the code."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import Result
from lmmsae_eval import errors
from lmmsae_eval.cli.group import Interrupted
from lmmsae_eval.harness.baseline import bless
from lmmsae_eval.harness.rundir import Run, load_run

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = ("annotate", "baseline", "cache", "data", "tasks")
"""Commands of commands: their own help names no options."""
BLOCK = re.compile(r"(<!-- not run: .+? -->\n)?```(\w+)\n(.*?)```", re.DOTALL)

Type = Callable[..., Result]
Make = Callable[..., Run]


class Block(NamedTuple):
    page: Path
    language: str
    code: str


def _blocks(page: Path) -> Iterator[Block]:
    """Those that are to be run, in the page's order."""
    for not_run, language, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if not not_run:
            yield Block(page, language, code)


def _commands(language: str) -> list[str]:
    lines = [
        line
        for page in PAGES
        for block in _blocks(page)
        if block.language == language
        for line in block.code.splitlines()
    ]
    return [line for line in lines if line.startswith("lmmsae-eval ")]


@pytest.fixture
def runs_a_and_b(make_run: Make) -> None:
    """The runs that the documentation speaks of."""
    for name, share in (("a", 0.2), ("b", 0.9)):
        shutil.move(make_run(share=share).path, Path("runs") / name)
    bless(load_run("runs/a"), "the documentation's")


@pytest.mark.usefixtures("runs_a_and_b")
@pytest.mark.parametrize("line", _commands("bash"))
def test_a_command_of_the_documentation_works(line: str, type_command: Type) -> None:
    result = type_command(*shlex.split(line, comments=True)[1:])

    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("runs_a_and_b")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_works_from_top_to_bottom(page: Path) -> None:
    names: dict[str, object] = {"__name__": "page"}
    code = [block.code for block in _blocks(page) if block.language == "python"]

    for i, source in enumerate(code):
        exec(compile(source, f"{page.name}, block {i}", "exec"), names)


def test_every_command_that_is_not_run_still_parses(type_command: Type) -> None:
    known = set(type_command("--help").output.split())
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

    for command, options in re.findall(r"lmmsae-eval (?!-)([a-z-]+)([^`\n#|]*)", text):
        assert command in known
        shown = type_command(command, "--help").output
        wanted = re.findall(r"(?<= )--[a-z-]+", options) if command not in GROUPS else []
        assert [option for option in wanted if option not in shown] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"(?<!!)\[[^\]]+\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_exit_code_is_documented_as_it_is_raised() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", text, re.MULTILINE)
    documented = {name: int(code) for code, cell in rows for name in re.findall(r"`(\w+)`", cell)}

    tree = [errors.LmmsaeEvalError, *errors.LmmsaeEvalError.__subclasses__()]
    raised = {e.__name__: e.exit_code for e in tree if e.__module__ == errors.__name__}
    raised["KeyboardInterrupt"] = Interrupted.exit_code
    assert documented == raised


def test_every_stored_key_is_documented(make_run: Make) -> None:
    run = make_run()
    page = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", page))

    assert run.document.keys() - documented == set()
    assert run.lines("consistency")[0].keys() - documented == set()
    assert run.metrics[0].keys() - documented == set()
    assert {"files", "schema_version"} == json.loads(
        (run.path / "manifest.json").read_text()
    ).keys()


def test_the_ci_script_installs_and_tests_as_the_readme_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    install, test = re.search(r"^(pip install .*-e .*) && (pytest)$", readme, re.MULTILINE).groups()

    assert f"{install.replace('pip install', 'pip install --quiet')} ||" in script
    assert f"\n{test}\n" in script
