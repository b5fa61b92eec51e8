"""What a reader sees of a latent."""

from __future__ import annotations

import numpy as np
from lmmsae_eval.tasks.features.cards import SIDE, strip
from PIL import Image


def test_pictures_of_a_camera_are_made_smaller_and_small_ones_stay() -> None:
    photo = Image.new("RGB", (1200, 900), "teal")
    drawn = Image.effect_noise((96, 96), 90).convert("RGB")
    sheet = strip([photo, drawn], gap=4)
    assert sheet is not None
    assert sheet.size == (SIDE + 4 + 96, 252)
    assert photo.size == (1200, 900)
    shown = np.asarray(sheet.convert("RGB"))[:96, SIDE + 4 :]
    assert np.abs(shown.astype(int) - np.asarray(drawn)).mean() < 4


def test_no_pictures_are_no_strip() -> None:
    assert strip([]) is None
