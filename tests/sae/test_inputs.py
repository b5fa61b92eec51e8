"""What a model is given, of families that other tests do not have."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.sae.lmm import Prompt
from PIL import Image


def test_a_family_whose_config_names_no_tower_is_squashed_to_the_papers_side(
    family_lmm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Chameleon's: its pictures become tokens of a codebook."""
    inputs = family_lmm("instructblip").inputs
    monkeypatch.setattr(inputs, "config", SimpleNamespace(model_type="chameleon"))
    monkeypatch.setattr(inputs, "view", "squash")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    wide = Image.fromarray(pixels)
    seen = [
        inputs.prepare([Prompt("is there a boat ?", one)]).inputs["pixel_values"]
        for one in (wide, wide.resize((336, 336)))
    ]
    assert torch.equal(*seen)
