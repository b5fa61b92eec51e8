"""What a task is: samples in, outcomes out, metrics recomputed from the stored lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

    from .artefacts import ArtefactStore
    from .progress import Progress

Status = Literal["ok", "unscorable", "error"]
SubjectT = TypeVar("SubjectT")

Line = Mapping[str, Any]
"""One stored sample: `{id, task, protocol, sae, hookpoint, latent, arm, concept, cluster, status,
scores, error, detail}`."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing to score. Its `payload` is what `evaluate` needs and is never written to disk."""

    id: str
    """Unique within the task of one run, stable from run to run."""
    cluster: str
    """Samples of one cluster are not independent: the unit that intervals resample."""
    arm: str = "main"
    """`main`, or the name of a control."""
    sae: str | None = None
    hookpoint: str | None = None
    latent: int | None = None
    concept: str | None = None
    payload: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sample. No exception becomes a number: the runner makes it an `error`."""

    status: Status
    scores: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    """JSON values worth keeping: raw output, parsed answer, label."""
    concept: str | None = None
    """Set when the concept is only known after scoring."""
    error: str | None = None
    error_type: str = "Outcome"

    @classmethod
    def ok(cls, scores: Mapping[str, float], **detail: Any) -> Outcome:
        return cls("ok", scores, detail)

    @classmethod
    def unscorable(cls, reason: str, **detail: Any) -> Outcome:
        return cls("unscorable", {}, {"reason": reason, **detail})

    @classmethod
    def broken(cls, error: Exception) -> Outcome:
        """For a task that asks several at once: one that breaks must not have all asked again."""
        return cls("error", error=str(error), error_type=type(error).__name__)


@dataclass(frozen=True, slots=True)
class Metric:
    """What a number means: reports and tables are drawn from this."""

    name: str
    title: str
    description: str
    higher_is_better: bool | None
    unit: str = ""
    range: tuple[float | None, float | None] = (None, None)
    headline: bool = False
    """Shown by default in tables."""


TOO_FEW = "insufficient"
"""The note of a row whose n is too small to say anything: the word is shown in its place."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of a run, with its n, its interval and how that was made."""

    metric: str
    value: float | None
    n_ok: int
    n_total: int
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    higher_is_better: bool | None = None
    sae: str | None = None
    hookpoint: str | None = None
    arm: str = "main"
    concept: str | None = None
    null: float | None = None
    """The value of the main control, when there is one, for the same cell."""
    note: str | None = None
    """`TOO_FEW`, or a caveat."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task's identity. `version` is bumped by hand whenever scores could change."""

    name: str
    version: int
    title: str
    description: str
    metrics: tuple[Metric, ...]
    cluster: str
    """What a cluster is, in words: `latent`, `image family`."""
    protocols: tuple[str, ...] = ("strict",)
    unscorable: str = "left out of the mean; shown as coverage"


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often a quantity fell between each edge and the next."""

    title: str
    edges: Sequence[float]
    """Ascending, one more than `counts`."""
    counts: Sequence[int]


@dataclass(slots=True)
class Card:
    """A picture of one sample or group for the report: reports render it, tasks draw no pages."""

    title: str
    text: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float | None] = field(default_factory=dict)
    images: Sequence[tuple[str, Image]] = ()
    """(caption, picture) pairs."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What a reader filters by: `concept`, `hookpoint`, `arm`."""
    sample: str | None = None
    """The id of the sample that it shows, if it shows one: people rate samples by their cards."""
    key: str | None = None
    """What a link to it says, unambiguous within the task; by its place if it has none."""
    related: Sequence[tuple[str, str]] = ()
    """(key, what to call it) of cards that a reader may want to see beside it."""
    histogram: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """The data of one plot; how it is drawn is the reports' business."""

    title: str
    kind: Literal["bars", "scatter", "lines", "reliability"]
    x: str
    y: str
    points: Sequence[Mapping[str, Any]]
    """Each has `x`, `y`, optionally `low`, `high`, `series`, `label`."""


@dataclass(slots=True)
class Context(Generic[SubjectT]):
    """What the runner hands a task. `subject` is whatever the tasks of a package agree on."""

    subject: SubjectT
    artefacts: ArtefactStore
    progress: Progress
    protocol: str = "strict"
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)


class Task(ABC, Generic[SubjectT]):
    """Yields samples, turns each into an outcome. Never loops over runs, writes files, draws."""

    spec: ClassVar[TaskSpec]
    batch_size: ClassVar[int] = 32
    can_rejudge: ClassVar[bool] = False
    """Whether its stored lines hold all that a judge is shown: then `rejudge` is written."""
    needs: ClassVar[Sequence[str] | None] = None
    """What its scores hang on beside the subject, in its package's words (`judge`, say): that is
    then opened for it, and what isn't named is not. None: it does not say."""

    @abstractmethod
    def samples(self, context: Context[SubjectT]) -> Iterable[Sample]:
        """All samples of the run, arms and controls included, in a fixed order for a given seed."""

    @abstractmethod
    def evaluate(self, samples: Sequence[Sample], context: Context[SubjectT]) -> Sequence[Outcome]:
        """One outcome per sample, in order. If it raises, the runner tries them one by one."""

    @abstractmethod
    def aggregate(self, lines: Sequence[Line]) -> Sequence[MetricRow]:
        """Metrics from the stored lines alone: no model, no GPU, no key."""

    def rejudge(self, lines: Sequence[Line], context: Context[SubjectT]) -> Sequence[Outcome]:
        """Outcomes of stored lines by the context's judge, without the model under study."""
        raise NotImplementedError(f"{self.spec.name} asks no judge again")

    def cards(self, lines: Sequence[Line], context: Context[SubjectT]) -> Iterable[Card]:
        return ()

    def plots(self, lines: Sequence[Line], rows: Sequence[MetricRow]) -> Iterable[Plot]:
        return ()
