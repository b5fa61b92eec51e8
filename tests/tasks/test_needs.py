"""What a task declares decides what is opened for it, which options reach it, what is compared."""

from __future__ import annotations

import pytest
from lmmsae_eval.cli.explaining import feature_params
from lmmsae_eval.errors import UnknownNameError, UsageError
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.registry import TASKS
from lmmsae_eval.harness.task import Task, TaskSpec
from lmmsae_eval.harness.transcript import Transcript
from lmmsae_eval.tasks.chats import judge_of, roles_of
from lmmsae_eval.tasks.needs import (
    CLIP,
    EXEMPLARS,
    EXPLANATIONS,
    JUDGE,
    MASKS,
    NEEDS,
    QUESTIONS,
    SEGMENTER,
    needs,
)
from lmmsae_eval.tasks.request import Request, chosen_tasks

OURS = {
    JUDGE: {"consistency"},
    EXPLANATIONS: {"iou", "clip", "consistency", "detect", "fuzz"},
    SEGMENTER: {"iou", "detect", "fuzz"},
    MASKS: {"dissect"},
    CLIP: {"iou", "clip", "consistency", "mono", "detect", "fuzz"},
    QUESTIONS: {"halluc", "chair", "attr_faithfulness"},
    EXEMPLARS: {"iou", "clip", "consistency", "dissect", "core", "mono", "detect", "fuzz"},
}
BUILT_IN = [name for name in TASKS.names() if "/" not in name]
UNTOUCHED = {"segmenter": "exact", "pooling": "mean", "near_duplicates": None, "clip": None}


@pytest.mark.parametrize("what", NEEDS)
def test_each_built_in_task_says_what_it_needs(what):
    assert {name for name in BUILT_IN if needs(TASKS.get(name), what)} == OURS[what]
    assert all(TASKS.get(name).needs is not None for name in BUILT_IN)


@pytest.fixture
def plugin(monkeypatch):
    """Makes a plugin's task with these needs, known as `example/task`."""

    def make(declared):
        class Example(Task[object]):
            spec = TaskSpec("example/task", 1, "", "", (), "sample")
            needs = declared

            def samples(self, context):
                return ()

            def evaluate(self, samples, context):
                return ()

            def aggregate(self, lines):
                return ()

        monkeypatch.setitem(TASKS._registered, "example/task", Example)

    return make


def opened_judge(tmp_path):
    (tmp_path / "judge.jsonl").write_text("")
    request = Request(["example/task"], judge=f"replay:{tmp_path / 'judge.jsonl'}")
    return judge_of(request, chosen_tasks(request), Transcript(), SilentProgress())


@pytest.mark.parametrize(
    ("declared", "asks"), [(None, True), (("judge",), True), ((), False), (("exemplars",), False)]
)
def test_a_judge_is_opened_for_a_plugin_unless_it_says_that_it_asks_none(
    plugin, tmp_path, declared, asks
):
    plugin(declared)
    assert (opened_judge(tmp_path) is not None) == asks


@pytest.mark.parametrize("declared", [None, (), ("judge",)])
def test_explainers_are_not_opened_for_a_plugin_that_does_not_say_it_needs_them(plugin, declared):
    plugin(declared)
    request = Request(["example/task"], roles={"explainer": "soft-wpmi"})
    roles = roles_of(request, chosen_tasks(request), Transcript(), SilentProgress())
    assert roles.document() == {}


def test_a_plugin_that_says_it_needs_explanations_gets_who_explains(plugin):
    plugin(("explanations",))
    request = Request(["example/task"], roles={"explainer": "soft-wpmi"})
    roles = roles_of(request, chosen_tasks(request), Transcript(), SilentProgress())
    assert roles.comparable() == {"explainer": "soft-wpmi"}


@pytest.mark.parametrize(
    ("declared", "reached"), [(None, []), ((), []), (("exemplars",), ["example/task"])]
)
def test_options_of_exemplars_reach_a_plugin_that_searches_them(plugin, declared, reached):
    plugin(declared)
    options = {**UNTOUCHED, "pooling": "max"}
    found = feature_params(options, ["example/task", "iou", "halluc"])
    assert found == {task: {"pooling": "max"} for task in [*reached, "iou"]}
    assert options == {}


def test_a_segmenter_for_tasks_that_segment_nothing_is_refused(plugin):
    plugin(("exemplars",))
    with pytest.raises(UsageError, match="--segmenter is for the tasks iou, detect and fuzz"):
        feature_params({**UNTOUCHED, "segmenter": "released"}, ["example/task", "clip"])


def test_a_need_that_opens_nothing_is_refused_with_what_was_probably_meant(plugin):
    plugin(("explanation",))
    with pytest.raises(UnknownNameError, match=r"need of task example/task:.*'explanations'"):
        chosen_tasks(Request(["example/task"]))
