"""What was asked for, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..harness.registry import TASKS, TESTBEDS
from ..harness.task import Task
from .needs import check_needs, may_ask_judge

if TYPE_CHECKING:
    from ..harness.limits import Limit

Layer = str | int
"""`model.layers.24`, or the paper's 1-based number."""

DEFAULT_WORLD = "testbed"
"""Where images and questions come from when the model brings none of its own."""
SQUASH = "squash"
_SQUASHING = ("paper", "released")
"""Protocols under which a model sees every picture as the paper's did: squashed, tiles left out."""


@dataclass(frozen=True)
class Request:
    """The options of one command."""

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
    image_set: str | None = None
    """Pictures that features are searched in and scored on, a folder or `dataset:REF`; None: the
    provider's."""
    label_names: Path | None = None
    """What the numbers in their masks mean."""
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
        **others: Any,
    ) -> Request:
        """From what `run` takes: one or several, paths or their names, None where not given."""
        several = [] if saes is None else _listed(saes)
        given = {n: _KINDS.get(n, _same)(v) for n, v in others.items() if v is not None}
        request = cls(_listed(tasks), several, list(layers or ()), **given)
        return replace(request, loading=_loading_under(request))

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
            **self._rest(),
        }

    def _rest(self) -> dict[str, Any]:
        """Only where given: earlier runs, which know no such options, stay the same run."""
        rest: dict[str, Any] = {
            "loading": _words(self.loading),
            "questions": self.questions,
            "images": self.images,
            "image_set": self.image_set,
            "label_names": str(self.label_names) if self.label_names else None,
            "roles": dict(self.roles) if any(self.roles.values()) else None,
            "prompt_file": str(self.prompt_file) if self.prompt_file else None,
            "explanations": str(self.explanations) if self.explanations else None,
        }
        return {name: value for name, value in rest.items() if value}


def chosen_tasks(request: Request) -> list[Task[Any]]:
    """The tasks, made. Raises `UsageError` for a name, protocol or parameter that there isn't."""
    names = list(dict.fromkeys(request.tasks))
    if not names:
        raise UsageError(f"no tasks; choose from {', '.join(TASKS.names())}")
    tasks = [TASKS.get(name)() for name in names]
    for task in tasks:
        check_needs(task)
        known = task.spec.protocols
        if request.protocol not in known:
            raise UsageError(
                f"{task.spec.name} has no protocol {request.protocol!r}; it has {', '.join(known)}"
            )
    if strangers := [name for name in request.params if name not in names]:
        raise UsageError(f"params for {strangers[0]!r}, which is not among the tasks")
    return tasks


def needs_judge(request: Request, tasks: Sequence[Task[Any]]) -> bool:
    """Whether a judge was named, and some task may ask it."""
    return request.judge is not None and any(map(may_ask_judge, tasks))


def _loading_under(request: Request) -> Mapping[str, Any]:
    """The paper's protocols fix which image tokens are read. An embedded model is loaded as it is:
    its provider's pictures are its own.
    """
    if request.protocol not in _SQUASHING or request.model in TESTBEDS.names():
        return request.loading
    chosen = request.loading.get("image_tokens", SQUASH)
    if chosen != SQUASH:
        raise UsageError(
            f"protocol {request.protocol!r} squashes pictures to the base grid, as the paper does; "
            f"leave out --image-tokens {chosen}, or take protocol strict"
        )
    return {**request.loading, "image_tokens": SQUASH}


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | Path) else list(value)


def _words(loading: Mapping[str, Any]) -> dict[str, str]:
    """As it would be typed."""
    return {name: str(value).removeprefix("torch.") for name, value in loading.items()}


def _same(value: Any) -> Any:
    return value


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "model": str,
    "samples": list,
    "questions": str,
    "images": str,
    "image_set": str,
    "label_names": Path,
    "prompt_file": Path,
    "explanations": Path,
}
