"""The original packages as segmenter: boxes to masks with small random models of their classes."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.features.original_sam import OriginalSam
from lmmsae_eval.tasks.features.segment import open_segmenter
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? boat tree a".split()


def save_detector(folder: Path) -> tuple[Path, Path]:
    pytest.importorskip("groundingdino.util.inference", exc_type=ImportError)
    import groundingdino.config
    from groundingdino.models import build_model
    from groundingdino.util.slconfig import SLConfig
    from lmmsae_eval.tasks.features.original_sam import _mend_bert

    bert = folder / "bert"
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    small = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=256,
    )  # fmt: skip
    BertModel(small).save_pretrained(bert)
    released = Path(next(iter(groundingdino.config.__path__))) / "GroundingDINO_SwinT_OGC.py"
    changes = {
        "enc_layers = 6": "enc_layers = 1",
        "dec_layers = 6": "dec_layers = 1",
        "num_queries = 900": "num_queries = 9",
        "dim_feedforward = 2048": "dim_feedforward = 32",
        '"bert-base-uncased"': repr(str(bert)),
    }
    text = released.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    config = folder / "small_cfg.py"
    config.write_text(text)
    _mend_bert()
    args = SLConfig.fromfile(str(config))
    args.device = "cpu"
    torch.manual_seed(0)
    weights = folder / "detector.pth"
    torch.save({"model": build_model(args).state_dict()}, weights)
    return config, weights


def save_sam(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("segment_anything", exc_type=ImportError)
    from segment_anything import sam_model_registry

    # The package has a function of the module's name.
    module = import_module("segment_anything.build_sam")
    tiny = partial(
        module._build_sam,
        encoder_embed_dim=16,
        encoder_depth=1,
        encoder_num_heads=2,
        encoder_global_attn_indexes=[],
    )
    monkeypatch.setitem(sam_model_registry, "tiny", tiny)
    torch.manual_seed(1)
    torch.save(tiny().state_dict(), folder / "sam.pth")
    return f"tiny:{folder / 'sam.pth'}"


def test_boxes_to_masks_with_the_packages_own_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, weights = save_detector(tmp_path)
    ref = f"{config}+{weights}+{save_sam(tmp_path, monkeypatch)}"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    segmenter = OriginalSam(ref, box_threshold=0.0)
    boxes = np.array(segmenter.boxes(picture, "Boat"))
    assert boxes.shape == (9, 4)
    assert (boxes[:, 0] <= boxes[:, 2]).all()
    assert (boxes[:, 1] <= boxes[:, 3]).all()
    best, united = segmenter, OriginalSam(ref, united=True, box_threshold=0.0)
    united.__dict__["_models"] = best._models
    one = best.proposals(picture, boxes[:2].tolist())
    all_ = united.proposals(picture, boxes[:2].tolist())
    assert [mask.shape for mask in one] == [(48, 64)] * 2
    for a, b in zip(one, all_, strict=True):
        assert (a <= b).all()
    assert best.identity != united.identity
    assert not OriginalSam(ref, box_threshold=1.1).mask(picture, "boat").any()


@pytest.mark.parametrize("ref", ["one", "a+b", "a+b+c", "a+b+vit_h"])
def test_a_ref_of_another_form_is_one_line(ref: str) -> None:
    with pytest.raises(UsageError, match=r"original:CONFIG\+DETECTOR\+TYPE:SAM"):
        open_segmenter(f"original:{ref}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file at"):
        open_segmenter(f"original:{tmp_path}/a+{tmp_path}/b+vit_h:{tmp_path}/c")


def test_without_the_packages_the_way_to_them_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("x")
    for name in ("groundingdino", "groundingdino.util.inference"):
        monkeypatch.setitem(sys.modules, name, None)
    ref = f"{tmp_path}/a+{tmp_path}/b+vit_h:{tmp_path}/c"
    with pytest.raises(UsageError, match=r"pip install"):
        OriginalSam(ref).boxes(Image.new("RGB", (8, 8)), "boat")
