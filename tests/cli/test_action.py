"""`action.yml` and the documented workflow, run as GitHub's runner runs them, as far as that can be
done without it: its steps in its shell, with its files and variables; only `pip` is a stand-in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from lmmsae_eval.harness.rundir import Run

Type = Callable[..., Result]
Make = Callable[..., Run]
Facts = Mapping[str, str]

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
PIP = '#!/bin/sh\necho "$@" >> "$FAKES/pip.log"\n'
COMMAND = f"""#!/bin/sh
if [ "$1" = run ]; then echo "$@" >> "$FAKES/run.log"; cp -r made gated; exit; fi
exec "{sys.executable}" -m lmmsae_eval "$@"
"""
"""`run` would take minutes: a run that was made before stands for it."""


@dataclass
class Runner:
    """What a job of GitHub Actions gives its steps, in a folder."""

    folder: Path
    outputs: dict[str, str] = field(default_factory=dict)
    """By `steps.ID.outputs.NAME`."""

    def __post_init__(self) -> None:
        self.fakes = self.folder / "fakes"
        self.fakes.mkdir()
        for name, text in (("pip", PIP), ("lmmsae-eval", COMMAND)):
            (self.fakes / name).write_text(text)
            (self.fakes / name).chmod(0o755)

    def summary(self) -> str:
        return (self.fakes / "summary.md").read_text(encoding="utf-8")

    def said(self, log: str) -> str:
        file = self.fakes / f"{log}.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def use(self, given: Facts) -> subprocess.CompletedProcess[str] | None:
        """A step that uses our action; the step that failed, or the last."""
        inputs = {name: str(about.get("default", "")) for name, about in ACTION["inputs"].items()}
        assert set(given) <= set(inputs)
        assert {n for n, about in ACTION["inputs"].items() if about.get("required")} <= set(given)
        facts = {f"inputs.{name}": value for name, value in (inputs | dict(given)).items()}
        done = None
        for step in ACTION["runs"]["steps"]:
            if holds(step.get("if"), facts):
                done = self.step(step, facts)
                if done.returncode:
                    break
        return done

    def step(self, step: Mapping[str, Any], facts: Facts) -> subprocess.CompletedProcess[str]:
        script, told = self.fakes / "step.sh", self.fakes / "output"
        script.write_text(filled(step["run"], facts), encoding="utf-8")
        told.write_text("")
        own = {name: filled(str(value), facts) for name, value in step.get("env", {}).items()}
        github = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(told),
            "GITHUB_STEP_SUMMARY": str(self.fakes / "summary.md"),
            "FAKES": str(self.fakes),
            "PATH": f"{self.fakes}:{os.environ['PATH']}",
        }
        # As the runner calls `shell: bash`.
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder,
            env={**os.environ, **github, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        for line in told.read_text().splitlines():
            name, _, value = line.partition("=")
            self.outputs[f"steps.{step['id']}.outputs.{name}"] = value
        return done


def filled(text: str, facts: Facts) -> str:
    """Expressions put in; an unknown one is a mistake, where GitHub would put in nothing."""
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda found: facts[found[1]], text)


def holds(condition: str | None, facts: Facts) -> bool:
    if condition is None:
        return True
    name, value = re.fullmatch(r"([\w.-]+) == '(\w*)'", condition).groups()  # type: ignore[union-attr]
    return facts[name] == value


@pytest.fixture
def job(in_folder: Path) -> Runner:
    return Runner(in_folder)


@pytest.fixture
def good(make_run: Make, type_command: Type) -> Run:
    """Blessed: nine latents of ten are consistent."""
    run = make_run(share=0.9)
    assert type_command("baseline", "set", run.id, "--reason", "first good run").exit_code == 0
    return run


def test_the_action_installs_its_own_commit_and_passes_a_good_run(job: Runner, good: Run) -> None:
    done = job.use({"run": f"runs/{good.id}"})

    assert done is not None
    assert (done.returncode, done.stderr) == (0, "")
    assert job.said("pip") == f"install -c {ROOT}/constraints.txt {ROOT}\n"
    assert job.summary().startswith("### lmmsae-eval: check passed: 1 numbers held")


def test_the_action_fails_its_step_by_4_with_annotation_and_summary(
    job: Runner, good: Run, make_run: Make
) -> None:
    bad = make_run(share=0.3)

    done = job.use({"run": f"runs/{bad.id}/run.json", "install": "false"})

    assert done is not None
    assert done.returncode == 4
    assert "::error title=lmmsae-eval check::consistency tpr at layer 2 dropped" in done.stderr
    assert "**dropped by" in job.summary()
    assert job.said("pip") == ""


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max-drop": "consistency=0.7,tpr=90%"}, 0),
        ({"max-drop": "tpr=1%", "alpha": "0.000001"}, 0),
        ({"max-drop": "tpr=1", "min-coverage": "0.99"}, 4),
        ({"baseline": "elsewhere.json"}, 2),
        ({"on-missing": "perhaps"}, 2),
        ({"max-drop": "tpr=1; touch injected #"}, 2),
        ({"run": '"; touch injected #'}, 2),
    ],
)
def test_each_input_reaches_the_gate_and_none_the_shell(
    job: Runner, good: Run, make_run: Make, options: dict[str, str], code: int
) -> None:
    bad = make_run(share=0.3)

    done = job.use({"run": f"runs/{bad.id}", "install": "false", **options})

    assert done is not None
    assert done.returncode == code, done.stderr
    assert not Path("injected").exists()


def test_floors_alone_need_no_baseline(job: Runner, make_run: Make) -> None:
    given = {"run": f"runs/{make_run(share=0.9).id}", "install": "false"}

    assert [job.use({**given, "min": f"tpr={least}"}).returncode for least in (0.5, 0.99)] == [0, 4]  # type: ignore[union-attr]


def documented_steps() -> list[dict[str, Any]]:
    """Those of the workflow in docs/ci-gate.md after the two that check out and install Python."""
    page = (ROOT / "docs" / "ci-gate.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    checkout, python, *steps = workflow["jobs"]["gate"]["steps"]
    assert "checkout" in checkout["uses"]
    assert "setup-python" in python["uses"]
    return steps


@pytest.mark.parametrize(("share", "code"), [(0.9, 0), (0.3, 4)])
def test_the_documented_workflow_gates_what_it_evaluated(
    job: Runner, make_run: Make, type_command: Type, share: float, code: int
) -> None:
    tasks = ("iou", "consistency")
    blessed = make_run(share=0.9, tasks=tasks, fail_on_error=4)
    assert type_command("baseline", "set", blessed.id, "--reason", "good").exit_code == 0
    Path("made").mkdir()
    make_run(share=share, tasks=tasks, fail_on_error=4).path.rename(Path("made/a-run"))

    *typed, gate = documented_steps()
    for step in typed:
        assert job.step(step, job.outputs).returncode == 0
    done = job.use({name: filled(value, job.outputs) for name, value in gate["with"].items()})

    assert job.said("run").startswith("run --tasks iou,consistency ")
    assert job.outputs == {"steps.run.outputs.path": "gated/a-run/run.json"}
    assert done is not None
    assert done.returncode == code, done.stderr


def test_the_action_types_options_that_the_command_has(type_command: Type) -> None:
    step = ACTION["runs"]["steps"][-1]
    shown = type_command("check", "--help").output

    wanted = set(ACTION["inputs"]) - {"run", "install"}
    assert {name for name in wanted if f"--{name} " not in shown} == set()
    used = {name for name in wanted if any(f"inputs.{name} " in v for v in step["env"].values())}
    assert used == wanted
    assert "${{" not in step["run"]


def test_the_action_has_the_keys_that_github_documents_for_a_composite_action() -> None:
    """docs.github.com, "Metadata syntax": others are an error there."""
    assert set(ACTION) <= {"name", "author", "description", "inputs", "outputs", "runs", "branding"}
    assert {"name", "description", "runs"} <= set(ACTION)
    assert ACTION["runs"]["using"] == "composite"
    for about in ACTION["inputs"].values():
        assert set(about) <= {"description", "required", "default", "deprecationMessage"}
        assert isinstance(about.get("default", ""), str)
    for step in ACTION["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert set(step) <= {"if", "shell", "run", "env", "name", "id", "working-directory"}
