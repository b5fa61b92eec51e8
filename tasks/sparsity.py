"""Measured L0: how many latents an SAE really uses on a token, whatever it was trained for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..harness.progress import SilentProgress

if TYPE_CHECKING:
    from ..harness.artefacts import ArtefactStore
    from ..sae.topk import TrainedSae
    from .subject import Subject

N_IMAGES = 32
"""Images of the search set whose tokens are counted: a few thousand tokens are enough."""
_FILE = "l0.json"


def measured_l0(subject: Subject, store: ArtefactStore) -> list[float]:
    """Mean active latents (above 0) an image token, per main SAE; from the cache when it is there.

    One forward an image for all SAEs together.
    """
    saes = subject.main_saes
    key = {
        "model": subject.lmm.identity,
        "saes": [[sae.hookpoint.name, sae.identity] for sae in saes],
        "data": subject.provider.revision,
        "seed": subject.seed,
        "images": N_IMAGES,
    }
    return store.get("l0", key, lambda: _measure(subject, saes), _save, _load)


def _measure(subject: Subject, saes: Sequence[TrainedSae]) -> list[float]:
    from .features.stream import stream

    images = subject.provider.images("search", N_IMAGES, subject.seed)
    active, tokens = [0] * len(saes), 0
    for chunk in stream(subject.lmm, saes, images, SilentProgress()):
        tokens += sum(len(boxes) for boxes in chunk.boxes)
        for i, entries in enumerate(chunk.entries):
            active[i] += len(entries.values)
    return [round(n / max(tokens, 1), 4) for n in active]


def _save(l0: Sequence[float], folder: Path) -> None:
    (folder / _FILE).write_text(json.dumps(list(l0)))


def _load(folder: Path) -> list[float]:
    return [float(value) for value in json.loads((folder / _FILE).read_text())]
