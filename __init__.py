"""A benchmark harness for sparse autoencoders on large multimodal models.

This file is lazy and stateless: pytest loads it a second time as the folder's own
`__init__`, and `lmmsae-eval --help` must not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "run": ".tasks.session",
    "train": ".sae.train",
    "compare": ".harness.compare",
    "load_lmm": ".sae.load",
    "load_sae": ".sae.formats",
    "load_run": ".harness.rundir",
    "Task": ".harness.task",
    "Sample": ".harness.task",
    "Outcome": ".harness.task",
    "register_task": ".harness.registry",
}

__all__ = [
    "Outcome",
    "Sample",
    "Task",
    "compare",
    "load_lmm",
    "load_run",
    "load_sae",
    "register_task",
    "run",
    "train",
]

if TYPE_CHECKING:
    from .harness.compare import compare
    from .harness.registry import register_task
    from .harness.rundir import load_run
    from .harness.task import Outcome, Sample, Task
    from .sae.formats import load_sae
    from .sae.load import load_lmm
    from .sae.train import train
    from .tasks.session import run


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lmmsae_eval' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name], "lmmsae_eval"), name)
