"""Boxes to masks to IoU with small random models of the real classes: plumbing, no accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.features.grounded_sam import GroundedSam, best_proposals
from PIL import Image
from transformers import (
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
    SwinConfig,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? boat tree a".split()


def save_detector(folder: Path) -> Path:
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    backbone = SwinConfig(
        window_size=4, image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        out_indices=[2, 3, 4],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text.to_dict(), d_model=32, encoder_layers=1,
        encoder_ffn_dim=32, encoder_attention_heads=4, decoder_layers=2, decoder_ffn_dim=32,
        decoder_attention_heads=4, num_queries=9, max_text_len=32,
    )  # fmt: skip
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 128})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def save_sam(folder: Path) -> Path:
    vision = SamVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=8,
        output_channels=16, mlp_dim=32, window_size=4, global_attn_indexes=[0], num_pos_feats=8,
    )  # fmt: skip
    prompts = SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=8)
    decoder = SamMaskDecoderConfig(
        hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
    )
    torch.manual_seed(1)
    config = SamConfig(
        vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder
    )
    SamModel(config).save_pretrained(folder)
    sides = {"height": 64, "width": 64}
    images = SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size=sides, mask_size={"longest_edge": 64},
        mask_pad_size=sides,
    )  # fmt: skip
    SamProcessor(images).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("segmenter")
    return f"{save_detector(root / 'detector')}+{save_sam(root / 'sam')}"


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_boxes_lie_in_the_picture_and_the_mask_has_its_size(ref: str, picture: Image.Image) -> None:
    segmenter = GroundedSam(ref, box_threshold=0.0, text_threshold=0.0)

    boxes = np.array(segmenter.boxes(picture, "Boat"))

    assert len(boxes) > 0
    assert (boxes[:, 0] <= boxes[:, 2]).all()
    assert (boxes.mean(0) >= 0).all()
    assert segmenter.mask(picture, "boat").shape == (80, 96)


def test_where_nothing_is_found_the_mask_is_empty(ref: str, picture: Image.Image) -> None:
    assert not GroundedSam(ref, box_threshold=1.1).mask(picture, "boat").any()


def test_of_three_proposals_the_best_rated_one_is_taken() -> None:
    masks = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    masks[0, 2] = masks[1, 0, 0] = True
    rated = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.4, 0.3]])

    best = best_proposals(masks, rated)

    assert best[0].all()
    assert best[1].sum() == 4


def test_a_label_is_looked_for_once_in_a_picture(ref: str, world: Any) -> None:
    class Counting(GroundedSam):
        looked = 0

        def mask(self, image: Image.Image, label: str) -> Any:
            Counting.looked += 1
            return super().mask(image, label)

    images, segmenter = world.Drawn(2), Counting(ref, box_threshold=0.0, text_threshold=0.0)
    first = segmenter.segment(images, 0, "boat")

    np.testing.assert_array_equal(segmenter.segment(images, 0, "boat"), first)
    assert Counting.looked == 1
    segmenter.segment(images, 1, "boat")
    assert Counting.looked == 2


def test_other_weights_or_thresholds_are_another_segmenter(ref: str, tmp_path: Path) -> None:
    detector, _, sam = ref.partition("+")

    assert GroundedSam(ref).identity == GroundedSam(ref).identity
    assert GroundedSam(ref).identity != GroundedSam(ref, box_threshold=0.2).identity
    assert GroundedSam(ref).identity != GroundedSam(f"{sam}+{detector}").identity


@pytest.mark.parametrize("wrong", ["only-one", "+sam", "detector+"])
def test_a_segmenter_is_two_models(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"name 'exact' or DETECTOR\+SAM"):
        GroundedSam(wrong)


def test_a_folder_without_a_model_is_one_line(tmp_path: Path, picture: Image.Image) -> None:
    with pytest.raises(UsageError, match="can be loaded from"):
        GroundedSam(f"{tmp_path}+{tmp_path}").mask(picture, "boat")
