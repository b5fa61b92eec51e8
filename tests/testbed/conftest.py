"""The planted testbed for built-in tasks, with a stand-in for the trained testbed's CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.tasks.features import clip_scores
from lmmsae_eval.testbed.planted import PlantedTestbed
from lmmsae_eval.testbed.world.labels import VOCABULARY


class OneHotClip:
    """Every caption is a direction of its own; images are all alike."""

    identity = "one-hot"

    def texts(self, texts: list[str]) -> np.ndarray:
        labels = [PlantedTestbed().caption_of(label) for label in VOCABULARY]
        return np.eye(len(labels), dtype=np.float32)[[labels.index(text) for text in texts]]

    def images(self, images: list[Any]) -> np.ndarray:
        return np.full((len(images), len(VOCABULARY)), len(VOCABULARY) ** -0.5, np.float32)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PlantedTestbed:
    """The planted testbed with a stand-in for the trained testbed's CLIP."""
    monkeypatch.setattr(clip_scores, "TransformersClip", lambda folder: OneHotClip())
    monkeypatch.setattr(PlantedTestbed, "clip_folder", lambda self: tmp_path)
    return PlantedTestbed()
