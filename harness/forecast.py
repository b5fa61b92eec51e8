"""What a run would cost, from what stored runs of the same tasks did. No model, nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .budget import ASSUMED_CALL, Price
from .limits import Limit, limited, selected
from .rundir import Run
from .task import Line, Sample, TaskSpec

UNKNOWN = "unknown"
_DICTIONARIES = ("saes", "layers")
"""Options that decide which samples there are, beside the model and the task's own."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command, before anything is loaded."""

    config: Mapping[str, Any]
    """As `run.json` keeps it."""
    protocol: str
    seed: int
    limit: Limit | None
    samples: Sequence[str]
    asks_judge: bool
    """Whether a chat model is asked at a cost: the testbed's labels and replays are not."""
    kept: Callable[[Mapping[str, Any]], bool] | None = None
    """Whether the wanted judge's reply to the request of a transcript's entry is kept."""
    n_saes: int | None = None
    """How many there are, over all hookpoints; None where only loading them tells."""

    def params(self, task: str) -> dict[str, Any]:
        return dict(self.config.get("params", {}).get(task, {}))


@dataclass(frozen=True, slots=True)
class TaskForecast:
    """One task; None is unknown."""

    task: str
    version: int
    protocol: str
    samples: int | None = None
    judge_calls: int | None = None
    kept_replies: int = 0
    """Further ones, that earlier runs have heard already."""
    seconds: float | None = None
    """Without loading, and without training SAEs."""
    dollars: float | None = None
    assumed: bool = False
    """Whether no run has counted tokens yet, so that `dollars` are of `budget.ASSUMED_CALL`."""
    source: str | None = None
    """The run that it is estimated from."""
    scaled: bool = False
    """Whether that run was on other SAEs or layers: its samples are counted for as many SAEs."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The plan of a command."""

    tasks: Sequence[TaskForecast]
    repeats: int
    known_run: str | None
    """A run of the very same options: it would be gone on with, or read if it is complete."""
    known_status: str | None

    def total(self, field: str) -> float | None:
        """Over tasks and repeats; None as soon as one part is unknown."""
        parts = [getattr(task, field) for task in self.tasks]
        return None if None in parts else self.repeats * sum(parts)

    def to_json(self) -> dict[str, Any]:
        fields = ("samples", "judge_calls", "seconds", "dollars")
        return {**asdict(self), "total": {name: self.total(name) for name in fields}}


def forecast(
    specs: Sequence[TaskSpec],
    wanted: Wanted,
    runs: Sequence[Run],
    price: Price | None = None,
    repeats: int = 1,
) -> Forecast:
    """What `wanted` would take. A task is estimated from the newest stored run with its version,
    protocol and parameters on the same model, SAEs and layers, whose samples include the wanted;
    where there is none, from one on other SAEs or layers, by how many SAEs either has.
    """
    newest = sorted(runs, key=lambda run: str(run.document.get("created", "")), reverse=True)
    same = next((run for run in newest if _same(run, wanted, specs)), None)
    return Forecast(
        tasks=[_task(spec, wanted, newest, price) for spec in specs],
        repeats=repeats,
        known_run=same.id if same else None,
        known_status=same.status if same else None,
    )


def _same(run: Run, wanted: Wanted, specs: Sequence[TaskSpec]) -> bool:
    document = run.document
    found = (document.get("seed"), document.get("limit"), list(document.get("samples") or ()))
    return (
        found == (wanted.seed, wanted.limit, list(wanted.samples))
        and document.get("config") == wanted.config
        and [task["version"] for task in run.tasks] == [spec.version for spec in specs]
    )


def _task(spec: TaskSpec, wanted: Wanted, runs: Sequence[Run], price: Price | None) -> TaskForecast:
    plain = TaskForecast(spec.name, spec.version, wanted.protocol)
    alike = [run for run in runs if _tells(run, spec, wanted)]
    same = next((run for run in alike if _on_same(run, wanted)), None)
    run = same or next((run for run in alike if wanted.n_saes and run.document["saes"]), None)
    if run is None:
        return plain
    factor = 1.0 if same else (wanted.n_saes or 0) / len(run.document["saes"])
    stored = run.lines(spec.name)
    lines = stored if _part(run) == _wanted_part(wanted) else list(_chosen(stored, wanted))
    samples = _count(lines, factor)
    calls = _count([line for line in lines if "judge" in line["detail"]], factor)
    calls = calls if wanted.asks_judge else 0
    # Of other SAEs other things are asked: of their replies nothing is known.
    kept = _kept(run, lines, wanted) if same else 0
    calls -= kept
    spent = run.document["timing"].get("tasks", {}).get(spec.name)
    return replace(
        plain,
        samples=samples,
        judge_calls=calls,
        kept_replies=kept,
        seconds=None if spent is None or not stored else spent * samples / len(stored),
        dollars=_dollars(calls, _counted(run), price),
        assumed=bool(calls and price and _counted(run) is None),
        source=run.id,
        scaled=not same,
    )


def _kept(run: Run, lines: Sequence[Line], wanted: Wanted) -> int:
    """Requests that need no call, as the stored run has made them too. One is made all the same,
    to see who answers. Another seed draws other items: of them nothing is known."""
    same = run.document.get("seed") == wanted.seed
    if wanted.kept is None or not wanted.asks_judge or not same:
        return 0
    names = {line["id"] for line in lines}
    requests = {e["key"]: e for e in run.judge() if e["key"] in names and e["role"] == "judge"}
    return max(0, sum(map(wanted.kept, requests.values())) - 1)


def _count(lines: Sequence[Line], factor: float) -> int:
    """With those of SAEs counted `factor` times."""
    of_saes = sum(line["sae"] is not None for line in lines)
    return len(lines) - of_saes + round(factor * of_saes)


def _on_same(run: Run, wanted: Wanted) -> bool:
    config = run.document.get("config") or {}
    return all(config.get(name) == wanted.config.get(name) for name in _DICTIONARIES)


def _tells(run: Run, spec: TaskSpec, wanted: Wanted) -> bool:
    """Whether a run says what the task would take: it had at least the samples wanted."""
    config = run.document.get("config") or {}
    own = next((task for task in run.tasks if task["name"] == spec.name), None)
    return (
        own is not None
        and run.complete
        and (own["version"], own["protocol"]) == (spec.version, wanted.protocol)
        and own.get("params", {}) == wanted.params(spec.name)
        and config.get("model") == wanted.config.get("model")
        and _part(run) in ((None, []), _wanted_part(wanted))
    )


def _part(run: Run) -> tuple[Limit | None, list[str]]:
    return run.document.get("limit"), list(run.document.get("samples") or ())


def _wanted_part(wanted: Wanted) -> tuple[Limit | None, list[str]]:
    return wanted.limit, list(wanted.samples)


def _chosen(lines: Sequence[Line], wanted: Wanted) -> Iterator[Line]:
    """The lines that the limit and the selection leave."""
    samples = [_sample(line) for line in lines]
    for sample in selected(limited(samples, wanted.limit), set(wanted.samples)):
        yield sample.payload


def _sample(line: Line) -> Sample:
    where = {key: line[key] for key in ("arm", "sae", "hookpoint")}
    return Sample(line["id"], line["cluster"], payload=line, **where)


def _dollars(calls: int, counted: Mapping[str, int] | None, price: Price | None) -> float | None:
    """By the tokens that stored calls took, or else by those that one is assumed to take."""
    if calls == 0:
        return 0.0
    if price is None:
        return None
    if counted is None:
        return calls * price.of(ASSUMED_CALL)
    return calls * price.of(counted) / counted["calls"]


def _counted(run: Run) -> Mapping[str, int] | None:
    """What a run has counted; nothing is known of a judge that was never asked."""
    judge = run.document.get("judge", {})
    asked = judge.get("calls", 0) if judge.get("provider") != "replay" else 0
    return judge if asked and judge.get("prompt_tokens") else None
