"""`score`: a stored run judged again, or its metrics made again, as a child run. The model under
study is not loaded: what a judge is shown lies in the run's lines and in the image set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import IncompleteError, NotComparableError, UsageError
from ..harness.artefacts import ArtefactStore
from ..harness.chat import ChatClient
from ..harness.plan import Plan, PlannedTask
from ..harness.progress import Progress, SilentProgress
from ..harness.recompute import installed_task
from ..harness.registry import TESTBEDS
from ..harness.rescoring import stored_task
from ..harness.rundir import Run
from ..harness.runner import execute
from ..harness.task import Context, Task
from ..harness.transcript import Transcript
from .chats import LABEL_JUDGE, LABEL_JUDGE_NOTE, open_chat
from .images import seen_in
from .subject import Subject

if TYPE_CHECKING:
    from ..sae.lmm import LMM

LABELS = "labels"
"""The testbed's own judge, by name."""
_OF_PLAN = ("limit", "samples")
_OF_TASK = ("name", "version", "protocol", "params")
_COUNTED = ("calls", "failed", "prompt_tokens", "completion_tokens")


def rescore(
    run: Run,
    judge: str | None = None,
    output_dir: str | Path = "runs",
    progress: Progress | None = None,
) -> Run:
    """The child run: by `judge` (`labels`, `openai/MODEL`, a URL, `replay:FILE`) where a task keeps
    what a judge is shown, otherwise from the stored outcomes.

    The same call again goes on or returns the complete child. Raises `UsageError` when no task can
    be judged again, `IncompleteError` for a partial run, `NotComparableError` when another version
    of a task or of the images is installed.
    """
    if not run.complete:
        raise IncompleteError(f"{run.path} is partial; run its command again to complete it first")
    tasks = {document["name"]: installed_task(run, document) for document in run.tasks}
    again = {name for name, task in tasks.items() if judge is not None and task.can_rejudge}
    if judge is not None and not again:
        raise UsageError(
            f"{run.path} has no task that a judge can be asked of again; leave --judge out"
        )
    _check_kept(run, again)
    transcript = Transcript()
    client = None if judge in (None, LABELS) else open_chat(str(judge), "judge", transcript)
    shown = progress or SilentProgress()
    subject = _subject(run, judge, client, shown) if again else None
    plan = _plan(run, tasks, again, client, subject, transcript, Path(output_dir), shown)
    return execute(plan, shown)


def what_was_done(parent: Run, child: Run) -> list[str]:
    """One line a task: judged again or not, and how much came out otherwise."""
    return [_told(parent, child, document["name"]) for document in parent.tasks]


def _told(parent: Run, child: Run, name: str) -> str:
    before, after = ({line["id"]: line for line in run.lines(name)} for run in (parent, child))
    changed = sum(before[i]["scores"] != line["scores"] for i, line in after.items() if i in before)
    if name in child.document["identity"]["judged_again"]:
        return f"{name}: judged again; {changed} of {len(after)} samples came out otherwise"
    old, new = (_values(run, name) for run in (parent, child))
    moved = sum(old.get(place) != value for place, value in new.items())
    numbers = f"{moved} of {len(new)} numbers came out otherwise" if moved else "all as before"
    return f"{name}: metrics made again, its samples can't be judged again; {numbers}"


def _values(run: Run, name: str) -> dict[tuple[Any, ...], Any]:
    place = ("sae", "hookpoint", "arm", "concept", "metric")
    rows = (row for row in run.metrics if row["task"] == name)
    return {tuple(row[key] for key in place): row["value"] for row in rows}


def _check_kept(run: Run, again: set[str]) -> None:
    """Runs of before kept the verdicts and not what was judged."""
    for name in again:
        judged = [line for line in run.lines(name) if "judge" in line["detail"]]
        if judged and not any("lit" in line["detail"] for line in judged):
            raise UsageError(
                f"{run.path} keeps no pictures of {name}: an earlier version made it; run it again"
            )


def _subject(run: Run, judge: str | None, client: ChatClient | None, progress: Progress) -> Subject:
    dataset = run.document["dataset"]
    world = TESTBEDS.get(dataset["id"])()
    provider = seen_in(run.document.get("config") or {}, world, progress)
    if provider.revision != dataset["revision"]:
        raise NotComparableError(
            f"{run.path} was judged on images {dataset['revision']!r}, installed are "
            f"{provider.revision!r}; install the version that made it"
        )
    return Subject(
        lmm=cast("LMM", _Absent()),
        saes=[],
        provider=provider,
        seed=dataset["seed"],
        n_search=dataset["n_search"],
        n_score=dataset["n_score"],
        judge_ref=None if client is None else judge,
        make_judge=None if client is None else lambda: client,
    )


class _Absent:
    """Stands where the model under study would: whoever asks it has no business here."""

    def __getattr__(self, name: str) -> Any:
        raise UsageError(f"the model under study is not loaded here (asked for its {name})")


def _plan(
    run: Run,
    tasks: Mapping[str, Task[Any]],
    again: set[str],
    client: ChatClient | None,
    subject: Subject | None,
    transcript: Transcript,
    folder: Path,
    progress: Progress,
) -> Plan:
    document = run.document
    judge = _judge_document(document["judge"], again, client)
    comparable = client.comparable() if client else LABEL_JUDGE
    shared = {k: v for k, v in document["comparability"].items() if k not in _OF_PLAN}
    planned = [
        PlannedTask(
            stored_task(tasks[part["name"]], run, again=part["name"] in again),
            Context(subject, ArtefactStore(), progress, part["protocol"], document["seed"]),
            part.get("params", {}),
            {"judge": comparable} if part["name"] in again else _extra(part["comparability"]),
            stands_for=type(tasks[part["name"]]),
        )
        for part in run.tasks
    ]
    return Plan(
        tasks=planned,
        directory=folder,
        identity={
            "rescored": document["identity_sha256"],
            "judged_again": sorted(again),
            "judge": judge,
        },
        comparability=shared,
        model=document["model"],
        saes=document["saes"],
        dataset=document["dataset"],
        judge=judge | ({"note": LABEL_JUDGE_NOTE} if again and client is None else {}),
        seed=document["seed"],
        limit=document.get("limit"),
        samples=document.get("samples") or (),
        # What broke in the run itself stays broken.
        fail_on_error=sum(int(counts["error"]) for counts in document["counts"].values()),
        parent=run.id,
        transcript=transcript,
    )


def _judge_document(
    before: Mapping[str, Any], again: set[str], client: ChatClient | None
) -> dict[str, Any]:
    """The parent's without its counts, which are of requests that this run doesn't make."""
    if again:
        return client.describe() if client else dict(LABEL_JUDGE)
    return {key: value for key, value in before.items() if key not in _COUNTED}


def _extra(comparability: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in comparability.items() if key not in _OF_TASK}
