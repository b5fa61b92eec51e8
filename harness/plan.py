"""What a run is to do, and the document that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .environment import environment, harness
from .fingerprint import fingerprint, package_of
from .identity import comparability_key, identity_key, run_id
from .limits import Limit, limited, selected
from .results import SCHEMA_VERSION, spec_document
from .task import Context, Sample, Task
from .transcript import Transcript

if TYPE_CHECKING:
    from .progress import Progress
    from .rundir import RunDirectory


class Ahead(Protocol):
    """Answers the questions of a whole task at once."""

    def rounds(self, directory: RunDirectory, progress: Progress) -> Iterator[None]:
        """Each time that it yields the task is evaluated and what comes of it thrown away; after
        the last time its questions have their answers.
        """


@dataclass(slots=True)
class PlannedTask:
    """A task with what it is given. `params` are those that can change outcomes."""

    task: Task[Any]
    context: Context[Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    comparability: Mapping[str, Any] = field(default_factory=dict)
    """What two runs must share beyond the version, protocol and params: the judge, say."""
    stands_for: type[Task[Any]] | None = None
    """The registered class, where `task` only gives what a run of it has stored."""

    ahead: Ahead | None = None
    """Gathers the task's questions before it is evaluated."""

    @property
    def name(self) -> str:
        return self.task.spec.name

    @property
    def registered(self) -> type[Task[Any]]:
        """The class whose source decides the scores."""
        return self.stands_for or type(self.task)


@dataclass
class Plan:
    """One command: tasks over one subject. The run goes to `directory / run_id`."""

    tasks: Sequence[PlannedTask]
    directory: Path
    """The folder of runs."""
    identity: Mapping[str, Any]
    """JSON parts that can change an outcome: model, SAEs, data, seed. Tasks and limit are added."""
    comparability: Mapping[str, Any]
    """JSON parts that two runs must share to be compared: base model, data revision, sample set."""
    model: Mapping[str, Any] = field(default_factory=dict)
    saes: Sequence[Mapping[str, Any]] = ()
    """Each `{name, hookpoint, layer, d_model, n_latents, k, weights_sha256, ...}`."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    judge: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """The options as typed, so that the command can be written again."""
    seed: int = 0
    limit: Limit | None = None
    """Clusters per SAE, hookpoint and arm (below 1: their share), see `limits.limited`."""
    samples: Sequence[str] = ()
    """Ids of the only samples to evaluate, of whichever task; empty is all."""
    fail_on_error: float = 0
    """How many broken samples a complete run may have: a count, or a share below 1."""
    parent: str | None = None
    """The run that this one rescores."""
    transcript: Transcript = field(default_factory=Transcript)
    """Where chat clients record; it writes to the run's `judge.jsonl`."""

    @cached_property
    def identity_sha256(self) -> str:
        return identity_key(self.task_parts(), self.identity_parts())

    @cached_property
    def comparability_sha256(self) -> str:
        return comparability_key(self._comparable_tasks(), self._comparability_parts())

    @property
    def run_id(self) -> str:
        return run_id([task.name for task in self.tasks], self.identity_sha256)

    @property
    def path(self) -> Path:
        return self.directory / self.run_id

    @property
    def limited(self) -> bool:
        """Whether only a part of the samples is evaluated."""
        return self.limit is not None or bool(self.samples)

    def listed(self, planned: PlannedTask) -> list[Sample]:
        """A task's samples, of which the limit and the selection leave a part.

        What a parent has stored is that part already.
        """
        everything = planned.task.samples(planned.context)
        if self.parent is not None:
            return list(everything)
        return selected(limited(everything, self.limit), set(self.samples))

    def identity_parts(self) -> dict[str, Any]:
        parts = {"seed": self.seed, "limit": self.limit, "parent": self.parent}
        return {**self.identity, **parts, **self._selection()}

    def _comparability_parts(self) -> dict[str, Any]:
        return {**self.comparability, "limit": self.limit, **self._selection()}

    def _selection(self) -> dict[str, Any]:
        """Only where there is one: runs over all samples keep the key that they always had."""
        return {"samples": sorted(self.samples)} if self.samples else {}

    def task_parts(self) -> list[dict[str, Any]]:
        return [
            {
                "name": task.name,
                "version": task.task.spec.version,
                "protocol": task.context.protocol,
                "seed": task.context.seed,
                "params": dict(task.params),
                "fingerprint": fingerprint(task.registered),
            }
            for task in self.tasks
        ]

    def _comparable_tasks(self) -> list[dict[str, Any]]:
        return [
            {
                "name": task.name,
                "version": task.task.spec.version,
                "protocol": task.context.protocol,
                "params": dict(task.params),
                **task.comparability,
            }
            for task in self.tasks
        ]

    def task_documents(self) -> list[dict[str, Any]]:
        """`run.json`'s `tasks`."""
        documents = zip(self.tasks, self.task_parts(), self._comparable_tasks(), strict=True)
        return [
            {
                **spec_document(t.task.spec),
                **parts,
                **package_of(t.registered),
                "comparability": comparable,
            }
            for t, parts, comparable in documents
        ]


def run_document(plan: Plan, before: Mapping[str, Any]) -> dict[str, Any]:
    """A new `run.json` without metrics, going on from what an earlier process has left."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": plan.run_id,
        "created": before.get("created", now),
        "status": "partial",
        "parent": plan.parent,
        "harness": harness(),
        "tasks": plan.task_documents(),
        "model": dict(plan.model),
        "saes": [dict(sae) for sae in plan.saes],
        "dataset": dict(plan.dataset),
        "judge": dict(plan.judge),
        "seed": plan.seed,
        "limit": plan.limit,
        "samples": list(plan.samples),
        "config": dict(plan.config),
        "identity_sha256": plan.identity_sha256,
        "identity": plan.identity_parts(),
        "comparability_sha256": plan.comparability_sha256,
        "comparability": plan._comparability_parts(),
        "env": environment(),
        "timing": {
            "seconds": before.get("timing", {}).get("seconds", 0.0),
            "tasks": dict(before.get("timing", {}).get("tasks", {})),
            "continued": now if before else None,
        },
        "counts": {},
        "metrics": [],
    }
