"""The shipped CLIP says the same through open_clip as through transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lmmsae_eval.testbed.provider import WEIGHTS
from lmmsae_eval.testbed.recipe.clip import (
    caption_words,
    encode_words,
    image_features,
    text_features,
)
from lmmsae_eval.testbed.recipe.open_clip import open_clip_config, open_clip_state
from lmmsae_eval.testbed.recipe.pictures import draw_random, pixel_values
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import CLIPModel

FOLDER: Path = WEIGHTS / "clip"


def test_both_files_of_the_clip_hold_the_same_weights() -> None:
    wanted = open_clip_state(CLIPModel.from_pretrained(FOLDER))
    stored = load_file(FOLDER / "open_clip_model.safetensors")

    assert stored.keys() == wanted.keys()
    assert all(torch.equal(stored[name], wanted[name]) for name in wanted)


def test_the_layout_loses_no_parameter() -> None:
    model = CLIPModel.from_pretrained(FOLDER)
    n_parameters = sum(tensor.numel() for tensor in model.parameters())

    assert sum(tensor.numel() for tensor in open_clip_state(model).values()) == n_parameters
    assert open_clip_config(model)["model_cfg"]["embed_dim"] == model.config.projection_dim


def test_open_clip_sees_and_reads_what_transformers_does() -> None:
    pytest.importorskip("torchvision", reason="open_clip needs torchvision: extra `open-clip`")
    open_clip = pytest.importorskip("open_clip", reason="not installed: extra `open-clip`")
    model = CLIPModel.from_pretrained(FOLDER).eval()
    theirs, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    pictures = draw_random(8, 20_261_123)
    captions = [caption_words(scene) for scene in pictures.scenes]
    pixels = torch.stack([prepare(Image.fromarray(image)) for image in pictures.images])

    with torch.no_grad():
        seen = normalize(theirs.eval().encode_image(pixels), dim=-1)
        read = normalize(theirs.encode_text(tokenizer(captions)), dim=-1)
        torch.testing.assert_close(seen, image_features(model, pixel_values(pictures.images)))
        torch.testing.assert_close(read, text_features(model, encode_words(captions)))
