"""Memory that runs out in the midst of halluc: smaller batches, said once, the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.task import Context, Outcome, Task
from lmmsae_eval.sae.lmm import Batch, Prompt
from lmmsae_eval.tasks.attr_faithfulness import AttrFaithfulness
from lmmsae_eval.tasks.halluc import Halluc
from lmmsae_eval.tasks.hallucination.asking import Asker
from lmmsae_eval.tasks.hallucination.bench import Bench
from lmmsae_eval.tasks.hallucination.memory import Memory
from lmmsae_eval.tasks.hallucination.questions import read_questions

HALLUC = {"controls": "all", "matched": 2, "random": 2, "n_test": 20, "tried": 2}
ATTRIBUTION = {"n_questions": 20, "n_top": 2, "n_random": 1, "steps": 2}


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Small:
    """A model that reads at most `most` prompts at a time."""

    def __init__(self, lmm: Any, most: int) -> None:
        self._lmm, self._most = lmm, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lmm, name)

    def forward(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        if len(batch) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self._lmm.forward(batch, *args, **kwargs)


def outcomes(task: Task[Any], context: Context[Any]) -> Iterator[tuple[str, Outcome]]:
    samples = list(task.samples(context))
    for start in range(0, len(samples), task.batch_size):
        batch = samples[start : start + task.batch_size]
        found = task.evaluate(batch, context)
        yield from zip([sample.id for sample in batch], found, strict=True)


@pytest.mark.parametrize(
    ("task", "params"), [(Halluc(), HALLUC), (AttrFaithfulness(), ATTRIBUTION)]
)
def test_a_model_with_room_for_few_questions_gives_the_same_outcomes(
    planted: Any, task: Task[Any], params: dict[str, Any], tmp_path: Path
) -> None:
    """With the same features: of those that do nothing, rounding decides which are tried."""
    roomy = dict(outcomes(task, planted.context(tmp_path, **params)))
    planted.lmm = Small(planted.lmm, 3)
    heard = Heard()
    context = replace(planted.context(tmp_path, **params), progress=heard)
    small = dict(outcomes(task, context))
    assert small.keys() == roomy.keys()
    for name, outcome in small.items():
        assert outcome.status == roomy[name].status
        assert outcome.scores == pytest.approx(roomy[name].scores, abs=1e-4), name
    [said] = [said for said in heard.said if "out of memory" in said]
    assert said.endswith("prompts at a time; going on with fewer")


def test_features_are_chosen_as_well_with_room_for_few_questions(planted: Any) -> None:
    wanted = Bench.of(planted.context(**HALLUC)).selection(planted.sae)
    planted.lmm = Small(planted.lmm, 3)
    found = Bench.of(planted.context(**HALLUC)).selection(planted.sae)
    assert found.dev == wanted.dev
    for topic, edit in wanted.plan.by_topic.items():
        assert found.plan.by_topic[topic].latents[:2] == edit.latents[:2]


def test_one_question_that_is_too_much_ends_in_one_line(planted: Any) -> None:
    planted.lmm = Small(planted.lmm, 0)
    with pytest.raises(UsageError, match="one prompt alone does not fit into memory"):
        list(outcomes(Halluc(), planted.context(**HALLUC)))


def test_what_other_askers_keep_makes_room(planted: Any) -> None:
    questions, memory = planted.provider.questions("test"), Memory()
    asker, other = (Asker(planted.lmm, questions, memory=memory) for _ in range(2))
    asked = read_questions(questions.records)[:4]
    prepared: list[int] = []
    prepare = planted.lmm.prepare

    def counted(prompts: list[Prompt]) -> Batch:
        prepared.append(len(prompts))
        return prepare(prompts)

    planted.lmm.prepare = counted
    other.batch(asked)
    other.batch(asked)
    assert prepared == [4]

    def work(some: Any) -> list[Any]:
        if len(some) > 2:
            raise MemoryError
        return asker.ask(some)

    assert sum(map(len, memory.over(asked, work))) == 4
    other.batch(asked)
    assert prepared == [4, 2, 2, 4]
