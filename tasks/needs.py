"""What a task may say that its scores hang on: what is opened for it, which options reach it."""

from __future__ import annotations

from typing import Any

from ..errors import UnknownNameError
from ..harness.task import Task

JUDGE = "judge"
"""Verdicts of a judge: runs with other judges are not compared."""
EXPLANATIONS = "explanations"
"""Of latents: runs with other explainers are not compared."""
EXEMPLARS = "exemplars"
"""Images that are searched for each latent: `--pooling`, `--near-duplicates` and `--clip`."""
SEGMENTER = "segmenter"
"""Where in a picture a label is true: `--segmenter`."""
MASKS = "masks"
"""The image set's own, and no segmenter will do."""
CLIP = "clip"
"""How near texts and images are: `--clip`."""
QUESTIONS = "questions"
"""Yes/no questions about images: `--questions`."""
NEEDS = (JUDGE, EXPLANATIONS, EXEMPLARS, SEGMENTER, MASKS, CLIP, QUESTIONS)

_Task = Task[Any] | type[Task[Any]]


def needs(task: _Task, what: str) -> bool:
    """Whether a task declares it."""
    return what in (task.needs or ())


def may_ask_judge(task: _Task) -> bool:
    """Whether a task declares that, or nothing at all: then it may."""
    return task.needs is None or needs(task, JUDGE)


def check_needs(task: _Task) -> None:
    """Raises `UnknownNameError` for a word that opens nothing here."""
    for word in task.needs or ():
        if word not in NEEDS:
            raise UnknownNameError(f"need of task {task.spec.name}:", word, NEEDS)
