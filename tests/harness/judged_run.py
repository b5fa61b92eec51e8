"""A judged run; also a process of its own, to be killed: `judged_run.py FOLDER URL N SECONDS`,
in batches with a fifth word."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmmsae_eval.errors import ChatError, LmmsaeEvalError
from lmmsae_eval.harness.artefacts import ArtefactStore
from lmmsae_eval.harness.batch_chat import BatchChat
from lmmsae_eval.harness.budget import Budget
from lmmsae_eval.harness.crowd import each
from lmmsae_eval.harness.kept_replies import KeptReplies
from lmmsae_eval.harness.openai_chat import OpenAIChat
from lmmsae_eval.harness.progress import SilentProgress
from lmmsae_eval.harness.question import Form, item_code
from lmmsae_eval.harness.retry import Policy
from lmmsae_eval.harness.rundir import Run
from lmmsae_eval.harness.runner import Plan, PlannedTask, execute
from lmmsae_eval.harness.task import (
    Context,
    Line,
    Metric,
    MetricRow,
    Outcome,
    Sample,
    Task,
    TaskSpec,
)
from lmmsae_eval.harness.transcript import Transcript

POLICY = Policy(timeout=0.4, total=8, retries=3, pause=0.01, concurrency=6)


def form_of(sample: str) -> Form:
    return Form(item_code("verdict", sample), "fits", (0, 1))


class Judged(Task[OpenAIChat]):
    """Each sample is one question with its own code."""

    spec = TaskSpec("toy/judged", 1, "Judged", "", (Metric("fits", "Fits", "", True),), "item")
    batch_size = 12

    def __init__(self, n: int) -> None:
        self.n = n

    def samples(self, context: Context[OpenAIChat]) -> Iterable[Sample]:
        return [Sample(f"s{i:04}", cluster=f"c{i}") for i in range(self.n)]

    def evaluate(
        self, samples: Sequence[Sample], context: Context[OpenAIChat]
    ) -> Sequence[Outcome]:
        chat = context.subject
        return each(lambda sample: _outcome(chat, sample.id), samples, chat.concurrency)

    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        values = [line["scores"]["fits"] for line in lines if line["status"] == "ok"]
        mean = sum(values) / len(values) if values else None
        return [MetricRow("fits", mean, len(values), len(lines))]


def _outcome(chat: OpenAIChat, sample: str) -> Outcome:
    form = form_of(sample)
    try:
        reply = chat.ask("You judge.", [f"Reply {form.example(1)} or 0."], sample, form)
    except ChatError as error:
        return Outcome.broken(error)
    said = form.read(reply.text)
    if said is None:
        return Outcome.unscorable("no verdict", raw=reply.text[:80])
    return Outcome.ok({"fits": float(said)})


def judge_all(
    folder: Path,
    url: str,
    n: int,
    policy: Policy = POLICY,
    *,
    batch: bool = False,
    kept: KeptReplies | None = None,
    **budget: Any,
) -> Run:
    transcript = Transcript(kept)
    limit = Budget(**budget, transcript=transcript) if budget else None
    make = BatchChat if batch else OpenAIChat
    chat = make(f"{url}/v1#judge", "judge", transcript, policy, limit)
    context: Context[OpenAIChat] = Context(chat, ArtefactStore(), SilentProgress())
    ahead = chat if isinstance(chat, BatchChat) else None
    planned = [PlannedTask(Judged(n), context, ahead=ahead)]
    return execute(
        Plan(planned, folder, {"n": n}, {}, judge=chat.describe(), transcript=transcript)
    )


def main(folder: str, url: str, n: str, timeout: str, *batch: str) -> int:
    policy = replace(POLICY, timeout=float(timeout))
    try:
        judge_all(Path(folder), url, int(n), policy, batch=bool(batch))
    except LmmsaeEvalError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    # By its name, as the tests load it: the same source under another name is another task.
    from judged_run import main as named_main

    sys.exit(named_main(*sys.argv[1:]))
