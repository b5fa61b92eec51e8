"""`--image-set`: the user's pictures in a run, and what must be named beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..harness.artefacts import ArtefactStore, cache_root
from ..harness.registry import TESTBEDS
from .features.image_sets.opening import OwnProvider, OwnSet, open_image_set
from .features.roles import LOCAL, SELF, SOFT_WPMI
from .needs import CLIP, EXEMPLARS, EXPLANATIONS, JUDGE, MASKS, SEGMENTER, needs

if TYPE_CHECKING:
    from ..harness.progress import Progress
    from ..harness.task import Task
    from .request import Request
    from .subject import Provider, Subject

_NEAR = "near_duplicates"


def own_images(request: Request, tasks: Sequence[Task[Any]], progress: Progress) -> OwnSet | None:
    """The pictures that were named, opened and split; None where none were.

    Raises `UsageError` where they have no task, or where what a task asks of them is not there.
    """
    ref = request.image_set
    if ref is None:
        if request.label_names is not None:
            raise UsageError("--label-names are those of --image-set; give the pictures too")
        return None
    using = [task for task in tasks if needs(task, EXEMPLARS)]
    if not using:
        raise UsageError(
            "--image-set is for tasks that search exemplars, such as iou; add one to --tasks"
        )
    for task in using:
        _check_clip(task, request)
    own = _opened(ref, request.label_names, request.params, progress)
    if not own.has_masks:
        for task in using:
            _check_masks(task, request)
    return own


def seen_in(config: Mapping[str, Any], base: Provider, progress: Progress) -> Provider:
    """The provider of a stored run by its config: `base` unless it named pictures of its own."""
    ref = config.get("image_set")
    if ref is None:
        return base
    names = config.get("label_names")
    own = _opened(ref, Path(names) if names else None, config["params"], progress)
    return OwnProvider(own, base, embedded=config["model"] in TESTBEDS.names())


def _opened(
    ref: str,
    label_names: Path | None,
    params: Mapping[str, Mapping[str, Any]],
    progress: Progress,
) -> OwnSet:
    near = [mine[_NEAR] for mine in params.values() if _NEAR in mine]
    store = ArtefactStore(cache_root())
    return open_image_set(ref, label_names, near[0] if near else None, store, progress)


def look_at(subject: Subject, own: OwnSet, model: str) -> None:
    """Put the pictures where the provider's would be."""
    subject.provider = OwnProvider(own, subject.provider, embedded=model in TESTBEDS.names())
    subject.n_search, subject.n_score = len(own.search), len(own.score)


def _check_clip(task: Task[Any], request: Request) -> None:
    if needs(task, CLIP) and "clip" not in request.params.get(task.spec.name, {}):
        raise UsageError(
            f"{task.spec.name} holds texts against pictures, and the embedded CLIP knows only the "
            "testbed's; name one with --clip, such as openai/clip-vit-base-patch32"
        )


def _check_masks(task: Task[Any], request: Request) -> None:
    """What a task can't do with pictures alone."""
    name, ref = task.spec.name, request.image_set
    if needs(task, SEGMENTER) and "segmenter" not in request.params.get(name, {}):
        raise UsageError(
            f"{ref} has no masks, and {name} asks where labels are true; give --segmenter "
            "DETECTOR+SAM or released, or a data set with masks"
        )
    if needs(task, MASKS):
        raise UsageError(f"{ref} has no masks, which {name} is about; give a data set with masks")
    if needs(task, JUDGE) and request.judge is None:
        raise UsageError(f"{ref} has no masks that could judge for {name}; give --judge")
    role = request.roles.get("explainer") or SELF
    wordless = role in (SELF, SOFT_WPMI) or role.startswith(LOCAL)
    if needs(task, EXPLANATIONS) and wordless and request.explanations is None:
        raise UsageError(
            f"{ref} brings no words to explain latents of {name} in; give a chat model with "
            "--explainer, or --explanations"
        )
