"""One command's worth of work: model, SAEs, subject, plan, run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..harness.progress import Progress, SilentProgress
from ..harness.retry import Policy
from ..harness.runner import execute
from ..harness.writing import clear_errors
from .benchmarks.opening import asked_questions
from .chats import Calling, CostLimit, judge_of, roles_of
from .images import look_at, own_images
from .loading import open_subject
from .planning import Opened, plan
from .request import DEFAULT_WORLD, Layer, Request, chosen_tasks

if TYPE_CHECKING:
    from ..harness.limits import Limit
    from ..harness.rundir import Run


def run(
    tasks: Sequence[str] | str,
    *,
    saes: Sequence[str | Path] | str | Path | None = None,
    layers: Sequence[Layer] | None = None,
    model: str = DEFAULT_WORLD,
    loading: Mapping[str, Any] | None = None,
    judge: str | None = None,
    policy: Policy | None = None,
    cost_limit: CostLimit | None = None,
    batch: bool = False,
    reply_cache: bool = True,
    protocol: str = "strict",
    output_dir: str | Path = "runs",
    seed: int = 0,
    limit: Limit | None = None,
    samples: Sequence[str] = (),
    params: Mapping[str, Mapping[str, Any]] | None = None,
    questions: str | Path | None = None,
    images: str | Path | None = None,
    image_set: str | Path | None = None,
    label_names: str | Path | None = None,
    roles: Mapping[str, str | None] | None = None,
    prompt_file: str | Path | None = None,
    explanations: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Evaluate SAEs of an LMM on tasks; the run is written to `output_dir / run_id`.

    Without `saes` they are trained at `layers` (default: the testbed's) once, and kept in the
    cache. The same call again goes on where it stopped, or returns the complete run. `policy` and
    `cost_limit` say how a chat judge is called and when it is too dear, `batch` that its provider's
    batch API is used, `reply_cache` that a request of an earlier run is not made again. Raises
    `UsageError` in one line for whatever doesn't exist or doesn't fit.
    """
    request = Request.of(
        tasks,
        saes,
        layers,
        model=model,
        loading=loading,
        judge=judge,
        protocol=protocol,
        seed=seed,
        limit=limit,
        samples=samples,
        params=params,
        questions=questions,
        images=images,
        image_set=image_set,
        label_names=label_names,
        roles=roles,
        prompt_file=prompt_file,
        explanations=explanations,
    )
    calling = Calling(policy, cost_limit, batch, reply_cache)
    return _run(request, Path(output_dir), progress or SilentProgress(), calling)


def _run(request: Request, output_dir: Path, progress: Progress, calling: Calling) -> Run:
    # What can be refused is refused before anything is trained.
    tasks = chosen_tasks(request)
    questions = asked_questions(request.questions, request.images, request.tasks, progress)
    images = own_images(request, tasks, progress)
    transcript = calling.transcript()
    judge = judge_of(request, tasks, transcript, progress, calling)
    roles = roles_of(request, tasks, transcript, progress)
    folder = _writable(output_dir)
    subject = open_subject(request, judge, progress)
    subject.roles = roles
    if questions is not None:
        subject.own_questions = questions.questions
    if images is not None:
        look_at(subject, images, request.model)
    opened = Opened(request, tasks, subject, judge, transcript, questions, images)
    return execute(plan(opened, folder, progress), progress)


def _writable(folder: Path) -> Path:
    """Two minutes of training later is too late to learn that nothing can be written."""
    with clear_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    return folder
