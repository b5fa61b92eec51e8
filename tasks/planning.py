"""From a request with everything opened to the runner's plan, and the documents of `run.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..harness.artefacts import ArtefactStore, cache_root
from ..harness.batch_chat import BatchChat
from ..harness.chat import ChatClient
from ..harness.plan import Plan, PlannedTask
from ..harness.progress import Progress
from ..harness.registry import TESTBEDS
from ..harness.task import Context, Task
from ..harness.transcript import Transcript
from .benchmarks.opening import HALLUC, OpenedQuestions
from .chats import LABEL_JUDGE, LABEL_JUDGE_NOTE
from .needs import EXPLANATIONS, JUDGE, may_ask_judge, needs
from .request import DEFAULT_WORLD, Request
from .sparsity import measured_l0
from .subject import Subject

if TYPE_CHECKING:
    from ..sae.lmm import LMM
    from ..sae.topk import TrainedSae
    from .features.image_sets.opening import OwnSet


@dataclass(frozen=True)
class Opened:
    """A request, and what it named."""

    request: Request
    tasks: Sequence[Task[Any]]
    subject: Subject
    judge: ChatClient | None
    """None: the testbed's labels judge."""
    transcript: Transcript
    questions: OpenedQuestions | None = None
    """None: the provider's."""
    images: OwnSet | None = None
    """None: the provider's."""

    @property
    def world(self) -> dict[str, Any]:
        """What is asked of the subject: images and questions."""
        world = {"data": self.subject.provider.revision, "sample_seed": self.request.seed}
        return world if self.questions is None else world | {"questions": self.questions.revision}


def plan(opened: Opened, folder: Path, progress: Progress) -> Plan:
    """What the runner is to do, in a run under `folder`."""
    request, subject, client = opened.request, opened.subject, opened.judge
    judge = client.describe() if client else dict(LABEL_JUDGE)
    return Plan(
        tasks=_planned(opened, client.comparable() if client else judge, progress),
        directory=folder,
        identity={
            "model": subject.lmm.identity,
            "saes": [[s.name, s.hookpoint.name, s.arm, s.identity] for s in subject.saes],
            "judge": judge,
            **({"roles": roles} if (roles := subject.roles.document()) else {}),
            **opened.world,
        },
        comparability={"model": subject.lmm.identity, **opened.world},
        model=_model_document(subject.lmm),
        saes=_sae_documents(subject),
        dataset=_dataset_document(opened),
        judge=judge if client else {**judge, "note": LABEL_JUDGE_NOTE},
        config=request.document(),
        seed=request.seed,
        limit=request.limit,
        samples=request.samples,
        transcript=opened.transcript,
    )


def _planned(opened: Opened, judge: Mapping[str, Any], progress: Progress) -> list[PlannedTask]:
    request, subject = opened.request, opened.subject
    # One store for all tasks: what one has made, the next one finds.
    store = ArtefactStore(cache_root())
    planned = []
    for task in opened.tasks:
        params = _params(request, task.spec.name)
        context = Context(subject, store, progress, request.protocol, request.seed, params)
        comparability: dict[str, Any] = {"judge": judge} if needs(task, JUDGE) else {}
        if needs(task, EXPLANATIONS) and (roles := subject.roles.comparable()):
            comparability["roles"] = roles
        batched = opened.judge if isinstance(opened.judge, BatchChat) else None
        ahead = batched if may_ask_judge(task) else None
        planned.append(PlannedTask(task, context, params, comparability, ahead=ahead))
    return planned


def _params(request: Request, name: str) -> dict[str, Any]:
    """All of the user's own questions are asked, where of the testbed's a part is enough."""
    whole = {"n_test": None} if name == HALLUC and request.questions is not None else {}
    params = whole | dict(request.params.get(name, {}))
    if request.image_set is not None:
        # The set was opened without them.
        params.pop("near_duplicates", None)
    return params


def _model_document(lmm: LMM) -> dict[str, Any]:
    return {
        "id": lmm.name,
        "identity": lmm.identity,
        "n_layers": lmm.n_layers,
        "d_model": lmm.d_model,
    }


def _sae_documents(subject: Subject) -> list[dict[str, Any]]:
    l0 = measured_l0(subject, ArtefactStore(cache_root()))
    return [
        _sae_document(sae) | {"l0": measured}
        for sae, measured in zip(subject.main_saes, l0, strict=True)
    ]


def _sae_document(sae: TrainedSae) -> dict[str, Any]:
    return {
        "name": sae.name,
        "hookpoint": sae.hookpoint.name,
        "layer": sae.hookpoint.layer,
        "architecture": sae.sae.architecture,
        "d_model": sae.sae.d_model,
        "n_latents": sae.sae.n_latents,
        "k": sae.sae.k,
        "weights_sha256": sae.identity,
    }


def _dataset_document(opened: Opened) -> dict[str, Any]:
    request, subject, asked = opened.request, opened.subject, opened.questions
    own: dict[str, Any] = {} if asked is None else {"questions": asked.document()}
    own |= {} if opened.images is None else {"images": opened.images.document()}
    return {
        **own,
        "id": request.model if request.model in TESTBEDS.names() else DEFAULT_WORLD,
        "revision": subject.provider.revision,
        "n_search": subject.n_search,
        "n_score": subject.n_score,
        "seed": request.seed,
        "note": subject.provider.note,
    }
