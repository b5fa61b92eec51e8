"""What a run says of its code, its machine and its layers; and what a limit leaves in."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lmmsae_eval.harness import environment as facts
from lmmsae_eval.harness.environment import environment, harness, package_version
from lmmsae_eval.harness.fingerprint import fingerprint
from lmmsae_eval.harness.limits import limited
from lmmsae_eval.harness.results import layer_of
from lmmsae_eval.harness.task import Sample

SOURCE = '''
"""A module."""
from lmmsae_eval.harness.task import Metric, Task, TaskSpec

LIMIT = 0.5

class Some(Task):
    """A task."""
    spec = TaskSpec("x/some", 1, "Some", "", (Metric("m", "M", "", True),), "item")

    def samples(self, context): return []
    def evaluate(self, samples, context): return [helper(s) for s in samples]
    def aggregate(self, lines): return []
    def cards(self, lines, context): return ["old"]

def helper(sample):
    # how it is scored
    return sample.id > LIMIT
'''


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fingerprint of a task with this source."""

    def make(source: str) -> str:
        name, file = "made_task", tmp_path / "made_task.py"
        file.write_text(source)
        module = ModuleType(name)
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, str(file), "exec"), module.__dict__)
        return fingerprint(module.__dict__["Some"])

    return make


@pytest.mark.parametrize(
    ("old", "new"),
    [("# how it is scored", "# why"), ('"""A task."""', '"""The task."""'), ('["old"]', '["new"]')],
    ids=["comment", "docstring", "drawing"],
)
def test_a_fingerprint_ignores_what_cannot_change_a_score(made: Any, old: str, new: str) -> None:
    assert old in SOURCE
    assert made(SOURCE) == made(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.5", "0.6"), ("sample.id >", "sample.id <"), ('"M"', '"N"'), ("samples]", "samples[:1]]")],
)
def test_a_fingerprint_moves_with_code_and_spec(made: Any, old: str, new: str) -> None:
    assert old in SOURCE
    assert made(SOURCE) != made(SOURCE.replace(old, new))


def test_a_fingerprint_moves_with_what_the_task_imports_from_its_own_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_tasks"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "some.py").write_text(SOURCE + "\nfrom .deep import rule\nfrom . import cards\n")
    (package / "deep.py").write_text("from .deeper import VALUE\ndef rule(): return VALUE\n")
    (package / "deeper.py").write_text("VALUE = 1\n")
    (package / "cards.py").write_text("COLOUR = 'red'\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def current() -> str:
        for name in [name for name in sys.modules if name.startswith("some_tasks")]:
            monkeypatch.delitem(sys.modules, name)
        return fingerprint(import_module("some_tasks.some").Some)

    before = current()
    (package / "cards.py").write_text("COLOUR = 'blue'\n")
    assert current() == before
    (package / "deeper.py").write_text("VALUE = 2\n")
    assert current() != before


def test_a_task_without_a_file_has_the_fingerprint_of_its_spec(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Typed(toy):  # type: ignore[misc]
        __module__ = "typed_in_a_console"

    assert len(fingerprint(Typed)) == 64


def test_the_environment_is_json_and_names_versions() -> None:
    found = environment()

    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["numpy"]
    assert found["cpus"] >= 1


def test_the_device_is_told_when_torch_is_loaded() -> None:
    import torch

    assert environment()["threads"] == torch.get_num_threads()


def test_a_checkout_tells_its_commit_and_a_wheel_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(facts, "_ROOT", tmp_path)
    assert harness() == {"name": "lmmsae-eval", "version": "0.1.0", "commit": None, "dirty": None}

    (tmp_path / ".git").mkdir()
    answers = {"rev-parse": "abc", "status": " M file"}
    monkeypatch.setattr(facts, "_git", lambda *arguments: answers[arguments[0]])
    assert (harness()["commit"], harness()["dirty"]) == ("abc", True)


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(facts, "_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert harness()["commit"] is None


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert package_version("no-such-package-at-all") is None


@pytest.mark.parametrize(
    ("hookpoint", "layer"),
    [
        ("model.layers.24", 25),
        ("layers.0", 1),
        ("model.language_model.layers.7", 8),
        ("model.layers.3.mlp", None),
        ("embed_tokens", None),
        (None, None),
    ],
)
def test_a_layer_is_the_published_number_counted_from_one(
    hookpoint: str | None, layer: int | None
) -> None:
    assert layer_of(hookpoint) == layer


def grid() -> list[Sample]:
    """Two arms at two hookpoints, four clusters of two samples each."""
    return [
        Sample(f"{hookpoint} {arm} {cluster} {i}", cluster, arm=arm, hookpoint=hookpoint)
        for hookpoint in ("a", "b")
        for arm in ("main", "rolled")
        for cluster in "wxyz"
        for i in range(2)
    ]


@pytest.mark.parametrize(("limit", "clusters"), [(1, "w"), (3, "wxy"), (9, "wxyz"), (0.5, "wx")])
def test_a_limit_keeps_whole_clusters_of_every_arm_and_hookpoint(
    limit: float, clusters: str
) -> None:
    kept = limited(grid(), limit)

    assert kept == [sample for sample in grid() if sample.cluster in clusters]


def test_a_tiny_share_keeps_at_least_one_cluster() -> None:
    assert {sample.cluster for sample in limited(grid(), 0.001)} == {"w"}


def test_without_a_limit_everything_stays() -> None:
    assert limited(grid(), None) == grid()
