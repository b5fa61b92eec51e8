"""One command's worth of work: model, SAEs, subject, plan, run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore, cache_root
from ..harness.budget import Budget, Price
from ..harness.chat import ChatClient, chat_client
from ..harness.plan import Plan, PlannedTask
from ..harness.progress import Progress, SilentProgress
from ..harness.registry import TASKS, TESTBEDS
from ..harness.retry import Policy
from ..harness.runner import execute
from ..harness.task import Context, Task
from ..harness.transcript import Transcript
from ..harness.writing import clear_errors
from .benchmarks.opening import HALLUC, OpenedQuestions, asked_questions
from .controls import with_controls
from .features.imported import read_published
from .features.roles import Roles, open_roles
from .local_chat import LOCAL, LocalChat
from .sparsity import measured_l0
from .subject import Provider, Subject

if TYPE_CHECKING:
    from ..harness.limits import Limit
    from ..harness.rundir import Run
    from ..sae.lmm import LMM
    from ..sae.topk import TrainedSae

Layer = str | int
"""`model.layers.24`, or the paper's 1-based number."""

DEFAULT_WORLD = "testbed"
"""Where images and questions come from when the model brings none of its own."""
LABEL_JUDGE = {"provider": "testbed", "requested": "labels"}
LABEL_JUDGE_NOTE = (
    "The label judge reads the same true masks that iou scores against: its verdicts and iou share "
    "their truth, and agree more than two independent measures would."
)
_JUDGED = ("consistency",)
"""Tasks whose scores depend on the judge; others stay comparable when it differs."""
_JUDGELESS = (
    "iou",
    "clip",
    "halluc",
    "dissect",
    "attr_faithfulness",
    "core",
    "mono",
    "detect",
    "fuzz",
)
"""Tasks that never ask a judge; a plugin's may."""
_EXPLAINED = ("iou", "clip", "consistency", "detect", "fuzz")
"""Tasks whose scores depend on who explains."""


@dataclass(frozen=True)
class Request:
    """What was asked for, before anything is loaded."""

    tasks: Sequence[str]
    saes: Sequence[str | Path] = ()
    layers: Sequence[Layer] = ()
    model: str = DEFAULT_WORLD
    loading: Mapping[str, Any] = field(default_factory=dict)
    """How the model is loaded, where that differs from the default: arguments of `load_lmm`."""
    judge: str | None = None
    protocol: str = "strict"
    seed: int = 0
    limit: Limit | None = None
    samples: Sequence[str] = ()
    """Ids of the only samples to evaluate; empty is all."""
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per task, what differs from its defaults."""
    questions: str | None = None
    """For halluc: a published set by name, or a file; None: the provider's."""
    images: str | None = None
    """Of those questions: a folder or an archive."""
    roles: Mapping[str, str | None] = field(default_factory=dict)
    """`explainer`, `refiner`, `labeller`, `second_labeller`."""
    prompt_file: Path | None = None
    explanations: Path | None = None

    @classmethod
    def of(
        cls,
        tasks: Sequence[str] | str,
        saes: Sequence[str | Path] | str | Path | None = None,
        layers: Sequence[Layer] | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        **others: Any,
    ) -> Request:
        """From what `run` takes: one or several, given or not."""
        several = [] if saes is None else _listed(saes)
        return cls(_listed(tasks), several, list(layers or ()), params=params or {}, **others)

    def document(self) -> dict[str, Any]:
        """For `run.json`'s `config`."""
        return {
            "tasks": list(self.tasks),
            "saes": [str(sae) for sae in self.saes],
            "layers": list(self.layers),
            "model": self.model,
            "judge": self.judge,
            "protocol": self.protocol,
            "params": {task: dict(params) for task, params in self.params.items()},
            **({"loading": _words(self.loading)} if self.loading else {}),
            **{name: value for name, value in self._data().items() if value is not None},
            **({"roles": dict(self.roles)} if any(self.roles.values()) else {}),
            **({"prompt_file": str(self.prompt_file)} if self.prompt_file else {}),
            **({"explanations": str(self.explanations)} if self.explanations else {}),
        }

    def _data(self) -> dict[str, str | None]:
        """Only where given: earlier runs, which know no such options, stay the same run."""
        return {"questions": self.questions, "images": self.images}


def run(
    tasks: Sequence[str] | str,
    *,
    saes: Sequence[str | Path] | str | Path | None = None,
    layers: Sequence[Layer] | None = None,
    model: str = DEFAULT_WORLD,
    loading: Mapping[str, Any] | None = None,
    judge: str | None = None,
    policy: Policy | None = None,
    cost_limit: tuple[float, Price] | None = None,
    protocol: str = "strict",
    output_dir: str | Path = "runs",
    seed: int = 0,
    limit: Limit | None = None,
    samples: Sequence[str] = (),
    params: Mapping[str, Mapping[str, Any]] | None = None,
    questions: str | Path | None = None,
    images: str | Path | None = None,
    roles: Mapping[str, str | None] | None = None,
    prompt_file: str | Path | None = None,
    explanations: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Evaluate SAEs of an LMM on tasks; the run is written to `output_dir / run_id`.

    Without `saes` they are trained at `layers` (default: the testbed's) once, and kept in the
    cache. The same call again goes on where it stopped, or returns the complete run. `policy` and
    `cost_limit` say how a chat judge is called and when it is too dear. Raises `UsageError` in one
    line for whatever doesn't exist or doesn't fit.
    """
    request = Request.of(
        tasks,
        saes,
        layers,
        params,
        model=str(model),
        loading=loading or {},
        judge=judge,
        protocol=protocol,
        seed=seed,
        limit=limit,
        samples=list(samples),
        questions=None if questions is None else str(questions),
        images=None if images is None else str(images),
        roles=roles or {},
        prompt_file=Path(prompt_file) if prompt_file else None,
        explanations=Path(explanations) if explanations else None,
    )
    shown = progress or SilentProgress()
    # What can be refused is refused before anything is trained.
    chosen = chosen_tasks(request)
    asked = asked_questions(request.questions, request.images, request.tasks, shown)
    transcript = Transcript()
    budget = Budget(*cost_limit, transcript) if cost_limit else None
    client = _judge(request, transcript, shown, policy, budget)
    roles_ = _roles(request, transcript, shown)
    folder = _writable(Path(output_dir))
    subject = open_subject(request, client, shown)
    subject.roles = roles_
    if asked is not None:
        subject.own_questions = asked.questions
    plan = _plan(request, chosen, subject, client, transcript, folder, shown, asked)
    return execute(plan, shown)


def _words(loading: Mapping[str, Any]) -> dict[str, str]:
    """As it would be typed."""
    return {name: str(value).removeprefix("torch.") for name, value in loading.items()}


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | Path) else list(value)


def chosen_tasks(request: Request) -> list[Task[Any]]:
    """The tasks, made. Raises `UsageError` for a name, protocol or parameter that there isn't."""
    names = list(dict.fromkeys(request.tasks))
    if not names:
        raise UsageError(f"no tasks; choose from {', '.join(TASKS.names())}")
    tasks = [TASKS.get(name)() for name in names]
    for task in tasks:
        known = task.spec.protocols
        if request.protocol not in known:
            raise UsageError(
                f"{task.spec.name} has no protocol {request.protocol!r}; it has {', '.join(known)}"
            )
    if strangers := [name for name in request.params if name not in names]:
        raise UsageError(f"params for {strangers[0]!r}, which is not among the tasks")
    return tasks


def _judge(
    request: Request,
    transcript: Transcript,
    progress: Progress,
    policy: Policy | None = None,
    budget: Budget | None = None,
) -> ChatClient | None:
    """Where no task asks a judge, none is opened: no key is needed, and it makes no other run."""
    if request.judge is None:
        return None
    if not needs_judge(request):
        progress.say(f"no task here asks a judge: {request.judge} is not used")
        return None
    client = open_judge(request.judge, transcript, policy, budget)
    client.describe()  # an address that serves no model, or several, says so now
    return client


def needs_judge(request: Request) -> bool:
    """Whether a judge was named, and some task may ask it."""
    return request.judge is not None and not set(request.tasks) <= set(_JUDGELESS)


def open_judge(
    ref: str,
    transcript: Transcript,
    policy: Policy | None = None,
    budget: Budget | None = None,
) -> ChatClient:
    """What `chat_client` opens, and `hf:FOLDER` or `hf:owner/name`."""
    if ref.startswith(LOCAL):
        return LocalChat(ref, "judge", transcript)
    return chat_client(ref, "judge", transcript, policy, budget)


def _roles(request: Request, transcript: Transcript, progress: Progress) -> Roles:
    """Who explains. As with judges, nobody is opened for tasks that ask nobody."""
    named = any(request.roles.values()) or request.prompt_file or request.explanations
    if not named:
        return Roles()
    if not set(request.tasks) & set(_EXPLAINED):
        progress.say("no task here needs explanations: explainers and files of them are not used")
        return Roles()
    if request.explanations is not None:
        if any(request.roles.values()):
            raise UsageError("--explanations has them all; leave --explainer and the others out")
        return Roles(published=read_published(request.explanations))
    return open_roles(
        request.roles, lambda ref, role: _open_chat(ref, role, transcript), request.prompt_file
    )


def _open_chat(ref: str, role: str, transcript: Transcript) -> ChatClient:
    if ref.startswith(LOCAL):
        return LocalChat(ref, role, transcript)
    return chat_client(ref, role, transcript)


def _writable(folder: Path) -> Path:
    """Two minutes of training later is too late to learn that nothing can be written."""
    with clear_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    return folder


def open_subject(request: Request, client: ChatClient | None, progress: Progress) -> Subject:
    """Load the model, load or train its SAEs, and put an untrained control beside each."""
    embedded = request.model in TESTBEDS.names()
    if not embedded and not request.saes and not request.layers:
        raise UsageError(
            f"only a testbed brings layers to train SAEs at; give --sae or --layers for "
            f"{request.model}"
        )
    provider: Provider = TESTBEDS.get(request.model if embedded else DEFAULT_WORLD)()
    # An embedded model is loaded in one way: where another is asked for, load_lmm refuses.
    plain = embedded and not request.loading
    lmm = provider.load_lmm() if plain else _load_lmm(request.model, request.loading)
    if request.saes:
        trained = load_saes(lmm, request.saes, request.layers)
    else:
        trained = default_saes(lmm, provider, request.layers, progress)
    subject = Subject(
        lmm=lmm,
        saes=trained,
        provider=provider,
        seed=request.seed,
        judge_ref=None if client is None else request.judge,
        make_judge=None if client is None else lambda: client,
    )
    return with_controls(subject, ArtefactStore(cache_root()))


def _load_lmm(ref: str, loading: Mapping[str, Any]) -> LMM:
    from ..sae.load import load_lmm

    return load_lmm(ref, **loading)


def load_saes(
    lmm: LMM, refs: Sequence[str | Path], layers: Sequence[Layer] = ()
) -> list[TrainedSae]:
    """SAEs from folders or the hub, in any layout, those at `layers` alone if any are given."""
    from ..sae.formats import bind_saes, load_sae

    wanted = [lmm.hookpoint(layer) for layer in layers]
    names = _names(refs)
    everything = [
        sae
        for ref, name in zip(refs, names, strict=True)
        for sae in bind_saes(lmm, load_sae(ref), name)
    ]
    chosen = [sae for sae in everything if not wanted or sae.hookpoint in wanted]
    for hookpoint in wanted:
        if all(sae.hookpoint != hookpoint for sae in chosen):
            there = ", ".join(dict.fromkeys(str(sae.hookpoint) for sae in everything))
            raise UsageError(f"no SAE at {hookpoint}; the given ones are at {there}")
    return chosen


def _names(refs: Iterable[str | Path]) -> list[str]:
    """Folder names, with as much of the path as tells them apart."""
    paths = [Path(ref).expanduser().resolve() for ref in refs]
    if len(set(paths)) < len(paths):
        raise UsageError("the same SAE folder is given twice; give each once")
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return ["/".join(path.parts[-length:]) for path in paths]


def default_saes(
    lmm: LMM, provider: Provider, layers: Sequence[Layer], progress: Progress
) -> list[TrainedSae]:
    """The built-in trainer's SAEs at `layers`, from the cache or trained now, all in one go."""
    from . import training

    hookpoints = [lmm.hookpoint(layer) for layer in layers or provider.default_hookpoints]
    distinct = list(dict.fromkeys(hookpoints))
    store = ArtefactStore(cache_root())
    return training.trained_saes(lmm, provider, distinct, store, progress, training.RECIPE)


def _plan(
    request: Request,
    tasks: Sequence[Task[Any]],
    subject: Subject,
    client: ChatClient | None,
    transcript: Transcript,
    folder: Path,
    progress: Progress,
    asked: OpenedQuestions | None = None,
) -> Plan:
    judge = client.describe() if client else dict(LABEL_JUDGE)
    world = {"data": subject.provider.revision, "sample_seed": request.seed}
    if asked is not None:
        world["questions"] = asked.revision
    return Plan(
        tasks=_planned(request, tasks, subject, client.comparable() if client else judge, progress),
        directory=folder,
        identity={
            "model": subject.lmm.identity,
            "saes": [[s.name, s.hookpoint.name, s.arm, s.identity] for s in subject.saes],
            "judge": judge,
            **({"roles": roles} if (roles := subject.roles.document()) else {}),
            **world,
        },
        comparability={"model": subject.lmm.identity, **world},
        model=_model_document(subject.lmm),
        saes=_sae_documents(subject),
        dataset=_dataset_document(request, subject, asked),
        judge=judge if client else {**judge, "note": LABEL_JUDGE_NOTE},
        config=request.document(),
        seed=request.seed,
        limit=request.limit,
        samples=request.samples,
        transcript=transcript,
    )


def _planned(
    request: Request,
    tasks: Sequence[Task[Any]],
    subject: Subject,
    judge: Mapping[str, Any],
    progress: Progress,
) -> list[PlannedTask]:
    # One store for all tasks: what one has made, the next one finds.
    store = ArtefactStore(cache_root())
    planned = []
    for task in tasks:
        name = task.spec.name
        params = _params(request, name)
        context = Context(subject, store, progress, request.protocol, request.seed, params)
        comparability: dict[str, Any] = {"judge": judge} if name in _JUDGED else {}
        if name in _EXPLAINED and (roles := subject.roles.comparable()):
            comparability["roles"] = roles
        planned.append(PlannedTask(task, context, params, comparability))
    return planned


def _params(request: Request, name: str) -> dict[str, Any]:
    """All of the user's own questions are asked, where of the testbed's a part is enough."""
    whole = {"n_test": None} if name == HALLUC and request.questions is not None else {}
    return whole | dict(request.params.get(name, {}))


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


def _dataset_document(
    request: Request, subject: Subject, asked: OpenedQuestions | None
) -> dict[str, Any]:
    questions = {} if asked is None else {"questions": asked.document()}
    return {
        **questions,
        "id": request.model if request.model in TESTBEDS.names() else DEFAULT_WORLD,
        "revision": subject.provider.revision,
        "n_search": subject.n_search,
        "n_score": subject.n_score,
        "seed": request.seed,
        "note": subject.provider.note,
    }
