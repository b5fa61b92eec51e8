"""Names are found lazily, guessed kindly, and never stolen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmmsae_eval.errors import UnknownNameError, UsageError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.recompute import recompute_metrics
from lmmsae_eval.harness.registry import TASKS, TESTBEDS, Registry, register_task
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.harness.task import Context

PLUGIN = Path(__file__).resolve().parent.parent / "plugin"
NAME = "lmmsae-eval-example/brightness"


@pytest.fixture
def registry() -> Registry[Any]:
    return Registry("thing", "no.such.group", {"pi": "math:pi", "absent": "no_such_module:x"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example plugin is installed into, as a user would install it."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(
        PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target", folder / "site"]
    subprocess.run([*command, *options, source], check=True, timeout=300)
    return folder / "site"


@pytest.fixture
def plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    for module in [name for name in sys.modules if name.startswith("lmmsae_eval_example")]:
        del sys.modules[module]
    TASKS._registered.pop(NAME, None)


def test_listing_names_imports_nothing() -> None:
    check = (
        "import sys; from lmmsae_eval.harness.registry import TASKS, TESTBEDS; "
        "TASKS.names(), TESTBEDS.names(); "
        "heavy = {'torch', 'numpy', 'transformers', 'rich', 'scipy', 'PIL'} & set(sys.modules); "
        "prefixes = ('lmmsae_eval.tasks', 'lmmsae_eval.testbed'); "
        "ours = [m for m in sys.modules if m.startswith(prefixes)]; "
        "assert not heavy and not ours, (heavy, ours)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_a_built_in_is_imported_when_asked_for_and_the_others_are_not(
    registry: Registry[Any],
) -> None:
    assert registry.get("pi") == pytest.approx(3.14159, abs=1e-5)
    assert "no_such_module" not in sys.modules


def test_built_in_tasks_and_testbeds_are_listed_by_name() -> None:
    assert TASKS.names()[:6] == ["iou", "clip", "consistency", "halluc", "chair", "dissect"]
    assert TESTBEDS.names()[:2] == ["testbed", "testbed:planted"]


def test_an_unknown_name_is_answered_with_what_was_probably_meant() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown task 'haluc'; did you mean 'halluc'\?"):
        TASKS.get("haluc")


def test_a_name_like_no_other_is_answered_with_all_names(registry: Registry[Any]) -> None:
    with pytest.raises(UnknownNameError, match="known: absent, pi"):
        registry.get("zzz")


def test_a_built_in_cannot_be_shadowed(registry: Registry[Any]) -> None:
    with pytest.raises(UsageError, match="built in and can't be replaced"):
        registry.register("pi")(3)
    assert registry.get("pi") != 3


def test_a_name_from_outside_needs_its_package(registry: Registry[Any]) -> None:
    with pytest.raises(UsageError, match="package/mine"):
        registry.register("mine")(object)


def test_a_decorated_task_is_found_by_the_name_in_its_spec(toy: Any) -> None:
    try:
        assert register_task(toy) is toy
        assert TASKS.get("toy/mean") is toy
        assert "toy/mean" in TASKS.names()
    finally:
        TASKS._registered.pop("toy/mean")


@pytest.mark.usefixtures("plugin")
def test_an_installed_plugin_is_listed_after_the_built_ins_without_being_imported() -> None:
    assert NAME in TASKS.names()[5:]
    assert "lmmsae_eval_example" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_an_installed_plugin_is_run_by_its_package_and_task_name(tmp_path: Path) -> None:
    from PIL import Image

    pictures = {str(level): Image.new("L", (8, 8), level) for level in (0, 51, 204, 255)}
    task = TASKS.get(NAME)()
    context = Context(pictures, ArtefactStore(), SilentProgress())
    run = execute(Plan([PlannedTask(task, context)], tmp_path, identity={}, comparability={}))

    assert run.status == "complete"
    assert run.id.startswith("lmmsae-eval-example.brightness-")
    assert run.metrics[0]["value"] == pytest.approx(0.5)
    assert run.tasks[0]["package"] == "lmmsae-eval-example"
    assert run.tasks[0]["package_version"] == "0.1"
    assert recompute_metrics(run) == run.metrics


@pytest.mark.usefixtures("plugin")
def test_a_broken_plugin_warns_and_leaves_the_others_usable() -> None:
    tasks = Registry("task", "lmmsae_eval.tasks", {})

    with pytest.warns(RuntimeWarning, match=r"'lmmsae-eval-example/broken'.*can't be loaded"):
        found = tasks.available()

    assert list(found) == [NAME]


@pytest.mark.usefixtures("plugin")
def test_asking_for_a_broken_plugin_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match=r"ModuleNotFoundError.*fix or uninstall") as caught:
        TASKS.get("lmmsae-eval-example/broken")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_that_calls_itself_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib import import_module

    monkeypatch.setattr(
        import_module("lmmsae_eval_example.brightness"),
        "Brightness",
        TASKS.get("iou"),
        raising=True,
    )
    with pytest.raises(UsageError, match="calls itself 'iou'"):
        Registry("task", "lmmsae_eval.tasks", {}).get(NAME)
