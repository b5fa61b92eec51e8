"""Chat models behind a run's roles: the judge, and those who explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore, cache_root
from ..harness.budget import Budget, Price
from ..harness.chat import ChatClient, chat_client
from ..harness.kept_replies import KeptReplies
from ..harness.progress import Progress
from ..harness.retry import Policy
from ..harness.task import Task
from ..harness.transcript import Transcript
from .features.imported import read_published
from .features.roles import Roles, open_roles
from .local_chat import LOCAL, LocalChat
from .needs import EXPLANATIONS, needs
from .request import Request, needs_judge

LABEL_JUDGE = {"provider": "testbed", "requested": "labels"}
LABEL_JUDGE_NOTE = (
    "The label judge reads the same true masks that iou scores against: its verdicts and iou share "
    "their truth, and agree more than two independent measures would."
)


CostLimit = tuple[float, Price]


@dataclass(frozen=True, slots=True)
class Calling:
    """How chat models are called. None of it changes what they answer."""

    policy: Policy | None = None
    cost_limit: CostLimit | None = None
    """Of the judge alone."""
    batch: bool = False
    """The judge's questions go through its provider's batch API."""
    reply_cache: bool = True
    """What was asked before, to the letter, is answered from the cache."""

    def transcript(self) -> Transcript:
        kept = KeptReplies(ArtefactStore(cache_root())) if self.reply_cache else None
        return Transcript(kept)


_USUAL = Calling()


def open_chat(
    ref: str,
    role: str,
    transcript: Transcript,
    policy: Policy | None = None,
    budget: Budget | None = None,
    *,
    batch: bool = False,
) -> ChatClient:
    """What `chat_client` opens, and `hf:FOLDER` or `hf:owner/name`."""
    if batch and ref.startswith((LOCAL, "replay:")):
        raise UsageError(f"{ref} takes no batches: --batch is for openai/MODEL and addresses")
    if ref.startswith(LOCAL):
        return LocalChat(ref, role, transcript)
    return chat_client(ref, role, transcript, policy, budget, batch=batch)


def judge_of(
    request: Request,
    tasks: Sequence[Task[Any]],
    transcript: Transcript,
    progress: Progress,
    calling: Calling = _USUAL,
) -> ChatClient | None:
    """Where no task asks a judge, none is opened: no key is needed, and it makes no other run."""
    if request.judge is None:
        if calling.batch:
            raise UsageError("--batch needs --judge openai/MODEL or the address of a batch API")
        return None
    if not needs_judge(request, tasks):
        progress.say(f"no task here asks a judge: {request.judge} is not used")
        return None
    budget = Budget(*calling.cost_limit, transcript) if calling.cost_limit else None
    client = open_chat(
        request.judge, "judge", transcript, calling.policy, budget, batch=calling.batch
    )
    client.describe()  # an address that serves no model, or several, says so now
    return client


def roles_of(
    request: Request, tasks: Sequence[Task[Any]], transcript: Transcript, progress: Progress
) -> Roles:
    """Who explains. As with judges, nobody is opened for tasks that ask nobody."""
    named = any(request.roles.values()) or request.prompt_file or request.explanations
    if not named:
        return Roles()
    if not any(needs(task, EXPLANATIONS) for task in tasks):
        progress.say("no task here needs explanations: explainers and files of them are not used")
        return Roles()
    if request.explanations is not None:
        if any(request.roles.values()):
            raise UsageError("--explanations has them all; leave --explainer and the others out")
        return Roles(published=read_published(request.explanations))
    return open_roles(
        request.roles, lambda ref, role: open_chat(ref, role, transcript), request.prompt_file
    )
