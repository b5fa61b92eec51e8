"""CLIP scorers by name; open_clip's real classes where the package is installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.features.clip import OpenClip, TransformersClip, open_clip_scorer
from PIL import Image


def test_the_ref_says_which_package_scores() -> None:
    assert isinstance(open_clip_scorer("open_clip:ViT-B-32/laion2b"), OpenClip)
    assert isinstance(open_clip_scorer("some/folder"), TransformersClip)
    assert open_clip_scorer("open_clip:a/b").identity != open_clip_scorer("open_clip:a/c").identity


def small_open_clip(folder: Path) -> str:
    """A small random model of the package's own classes."""
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    import torch

    shape = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {
            "context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    model = open_clip.CLIP(**shape)
    config = {"model_cfg": shape, "preprocess_cfg": {"size": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"open_clip:local-dir:{folder}"


def test_open_clip_embeds_pictures_and_texts_as_unit_vectors(tmp_path: Path) -> None:
    scorer = open_clip_scorer(small_open_clip(tmp_path))
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)
    ]
    images, texts = scorer.images(pictures), scorer.texts(["a boat", "a tree"])
    assert images.shape == (3, 16)
    assert texts.shape == (2, 16)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    assert not np.allclose(texts[0], texts[1])


def test_open_clip_without_weights_is_refused() -> None:
    pytest.importorskip("open_clip", exc_type=ImportError)
    with pytest.raises(UsageError, match="names no weights"):
        open_clip_scorer("open_clip:ViT-B-32").texts(["a boat"])


def test_without_the_package_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UsageError, match=r"pip install 'lmmsae-eval\[open-clip\]'"):
        open_clip_scorer("open_clip:ViT-B-32/x").texts(["a boat"])
