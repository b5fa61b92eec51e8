"""CLIP scorers by name; open_clip's real classes where the package is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.features.clip import OpenClip, TransformersClip, open_clip_scorer
from PIL import Image


def test_the_ref_says_which_package_scores() -> None:
    assert isinstance(open_clip_scorer("open_clip:ViT-B-32/laion2b"), OpenClip)
    assert isinstance(open_clip_scorer("some/folder"), TransformersClip)
    assert open_clip_scorer("open_clip:a/b").identity != open_clip_scorer("open_clip:a/c").identity


def words() -> Any:
    """A tokenizer of nine words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    known = ("<pad>", "</s>", "<unk>", "a", "boat", "tree", "on", "the", "sea")
    table = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, "<unk>"))
    table.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=table, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def small_siglip(folder: Path) -> str:
    """SigLIP as transformers has it, random."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

    tokenizer = words()
    tokenizer.model_max_length = 8
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2}
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**small, **ends, "vocab_size": 9, "max_position_embeddings": 8},
        vision_config={**small, "image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    SiglipProcessor(images, tokenizer).save_pretrained(folder)
    return str(folder)


def small_open_siglip(folder: Path) -> str:
    """SigLIP as open_clip has it: its own text tower, a timm tower with a pooling head."""
    pytest.importorskip("open_clip", exc_type=ImportError)
    import torch
    from open_clip.model import CustomTextCLIP

    words().save_pretrained(folder)
    shape: dict[str, Any] = {
        "embed_dim": 16,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map",
            "timm_proj": "linear",
        },
        "text_cfg": {
            "context_length": 8, "vocab_size": 9, "width": 16, "heads": 2, "layers": 1,
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
            "hf_tokenizer_name": "of this folder",
        },
    }  # fmt: skip
    torch.manual_seed(0)
    model = CustomTextCLIP(**shape)
    config = {"model_cfg": {**shape, "custom_text": True}, "preprocess_cfg": {"size": 160}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"open_clip:local-dir:{folder}"


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


@pytest.mark.parametrize("small", [small_open_clip, small_open_siglip, small_siglip])
def test_every_package_embeds_pictures_and_texts_as_unit_vectors(
    small: Callable[[Path], str], tmp_path: Path
) -> None:
    scorer = open_clip_scorer(small(tmp_path))
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
    # Neither the batch nor what is beside it moves a vector.
    np.testing.assert_allclose(scorer.texts(["a boat"])[0], texts[0], atol=1e-5)
    np.testing.assert_allclose(scorer.images(pictures[1:2])[0], images[1], atol=1e-5)


def test_a_model_of_another_kind_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match=r"it is a bert; choose one of clip, siglip") as caught:
        open_clip_scorer(str(tmp_path)).texts(["a boat"])
    assert "\n" not in str(caught.value)


def test_open_clip_without_weights_is_refused() -> None:
    pytest.importorskip("open_clip", exc_type=ImportError)
    with pytest.raises(UsageError, match="names no weights"):
        open_clip_scorer("open_clip:ViT-B-32").texts(["a boat"])


def test_without_the_package_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UsageError, match=r"pip install 'lmmsae-eval\[open-clip\]'"):
        open_clip_scorer("open_clip:ViT-B-32/x").texts(["a boat"])
