"""What each family's classes are given, as small as they go, and pictures to try it on.

Fields: see `tiny_families.Family`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]
DEPTH = 2
"""Blocks of the vision tower."""
WIDE, TALL, SQUARE, SMALL = (120, 50), (40, 100), (64, 64), (30, 24)

WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
TEXT = {**WIDTHS, "num_hidden_layers": 3, "num_key_value_heads": 2, "initializer_range": 0.2}
LLAMA, QWEN2 = {"model_type": "llama", **TEXT}, {"model_type": "qwen2", **TEXT}
GEMMA = {"model_type": "gemma", **TEXT, "head_dim": 8}
TOWER = {**WIDTHS, "num_hidden_layers": DEPTH, "image_size": 32, "patch_size": 4}
CLIP = {"model_type": "clip_vision_model", **TOWER}
SIGLIP = {"model_type": "siglip_vision_model", **TOWER, "vision_use_head": False}


def side(n: int) -> dict[str, int]:
    return {"height": n, "width": n}


def llava(classes: str, image_processor: str, pinpoints: Settings) -> dict[str, Any]:
    """CLIP's patches without its class token."""
    return {
        "classes": classes,
        "image_processor": image_processor,
        "pixels": {"size": {"shortest_edge": 32}, "crop_size": side(32), **pinpoints},
        "text": LLAMA,
        "vision": CLIP,
        "processor": {
            "patch_size": 4,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
        },
        "config": {"vision_feature_layer": -1, "image_seq_length": 64, **pinpoints},
    }


def qwen(classes: str, text: Settings, rope: Settings, vision: Settings) -> dict[str, Any]:
    """Dynamic resolution, 2 x 2 patches merged."""
    patches = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    section = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, **rope}
    special = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
    fields = ["vision_start_token_id", "image_token_id", "vision_end_token_id", "video_token_id"]
    return {
        "classes": classes,
        "image_processor": "Qwen2VLImageProcessorPil",
        "pixels": {"size": {"shortest_edge": 32**2, "longest_edge": 96**2}, **patches},
        "text": {**TEXT, **text, "rope_parameters": section},
        "vision": {"depth": DEPTH, "hidden_size": 32, "num_heads": 4, "patch_size": 4, **vision},
        "turn": "<|vision_start|><|image_pad|><|vision_end|>",
        "special": special,
        "ids": dict(zip(fields, special, strict=True)),
        "sizes": [SQUARE, WIDE, TALL, (200, 150)],
        "edge": 8,
    }


def split(classes: str, *more: str) -> dict[str, Any]:
    """Tiles in rows and columns, then the whole picture; pixel shuffle."""
    tiles = [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
    around = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    return {
        "classes": classes,
        "image_processor": f"{classes}ImageProcessorPil",
        "pixels": {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}},
        "text": LLAMA,
        "vision": TOWER,
        "special": [*around, *tiles, *more],
        "processor": {"image_seq_len": 16},
        "config": {"scale_factor": 2},
        # Resized in two passes: (96, 64) and (32, 96) are left as they are.
        "sizes": [(96, 64), WIDE, (32, 96), SMALL],
        "tiles": True,
        "edge": 8,
        "blur": 7.5,
    }


NEXT = {"image_grid_pinpoints": [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]}
ONEVISION = {"image_grid_pinpoints": [[34 * h, 34 * w] for h in range(1, 4) for w in range(1, 4)]}
FULL = {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_4"}
WITH_OUT = {"out_hidden_size": 32, "intermediate_size": 48}
IMAGE_WORDS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
SOFT_WORDS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
QFORMER = {**WIDTHS, "num_hidden_layers": 2, "vocab_size": 24, "encoder_hidden_size": 32}

TABLE: dict[str, dict[str, Any]] = {
    "llava": llava("Llava", "CLIPImageProcessorPil", {}),
    "llava_next": {
        **llava("LlavaNext", "LlavaNextImageProcessorPil", NEXT),
        "sizes": [SQUARE, WIDE, TALL, (200, 150)],
        "tiles": True,
    },
    "llava_onevision": {
        "classes": "LlavaOnevision",
        "image_processor": "LlavaOnevisionImageProcessorPil",
        "pixels": {"size": side(34), **ONEVISION},
        "text": QWEN2,
        # Its tower's side is no multiple of its patch, as the published one's: 34 = 8 x 4 + 2.
        "vision": {**SIGLIP, "image_size": 34},
        "special": ["<image>", "<video>"],
        "processor": {**FULL, "num_image_tokens": 64},
        "config": {**FULL, **ONEVISION, "vision_feature_layer": -1},
        "ids": {"image_token_id": "<image>", "video_token_id": "<video>"},
        "sizes": [(68, 68), WIDE, TALL, (96, 90)],
        "tiles": True,
        "smeared": [(96, 90)],
    },
    "qwen2_vl": qwen("Qwen2VL", {}, {}, {"embed_dim": 32, "mlp_ratio": 2}),
    "qwen2_5_vl": qwen(
        "Qwen2_5_VL", {}, {}, {**WITH_OUT, "window_size": 32, "fullatt_block_indexes": [1]}
    ),
    "qwen3_vl": qwen(
        "Qwen3VL",
        {"head_dim": 8},
        {"mrope_interleaved": True},
        {**WITH_OUT, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
    ),
    "idefics3": split("Idefics3"),
    "smolvlm": split("SmolVLM", "<video>"),
    "internvl": {
        "classes": "InternVL",
        "image_processor": "GotOcr2ImageProcessorPil",
        "pixels": {"size": side(32), "max_patches": 6},
        "text": QWEN2,
        "vision": TOWER,
        "turn": "<IMG_CONTEXT>",
        "special": list(IMAGE_WORDS.values()),
        "named": IMAGE_WORDS,
        "processor": {"image_seq_length": 16},
        "config": {"image_seq_length": 16, "downsample_ratio": 0.5, "tie_word_embeddings": False},
        "ids": {"image_token_id": "<IMG_CONTEXT>"},
        "sizes": [SQUARE, WIDE, TALL, SMALL],
        "tiles": True,
        "edge": 8,
    },
    "paligemma": {
        "classes": "PaliGemma",
        "image_processor": "SiglipImageProcessorPil",
        "pixels": {"size": side(32)},
        "text": GEMMA,
        "vision": SIGLIP,
        "turn": None,
        "config": {"projection_dim": 32, "hidden_size": 32},
        "ids": {"image_token_index": "<image>"},
        "texts_alone": False,
    },
    "gemma3": {
        "classes": "Gemma3",
        "image_processor": "Gemma3ImageProcessorPil",
        "pixels": {"size": side(64)},
        "text": {**TEXT, "head_dim": 8, "sliding_window": 64},
        "vision": {**SIGLIP, "image_size": 64},
        "turn": "<start_of_image>",
        "special": list(SOFT_WORDS.values()),
        "named": SOFT_WORDS,
        "processor": {"image_seq_length": 64},
        "config": {"mm_tokens_per_image": 64},
        "ids": {
            "boi_token_index": "<start_of_image>",
            "eoi_token_index": "<end_of_image>",
            "image_token_index": "<image_soft_token>",
            "image_token_id": "<image_soft_token>",
        },
        "edge": 8,
    },
    "instructblip": {
        "classes": "InstructBlip",
        "image_processor": "BlipImageProcessorPil",
        "pixels": {"size": side(32)},
        "text": LLAMA,
        "vision": {**TOWER, "initializer_range": 0.02},
        "turn": None,
        "processor": {"num_query_tokens": 32},
        "config": {"num_query_tokens": 32, "qformer_config": QFORMER},
        "ids": {"image_token_index": "<image>"},
        "sizes": [SQUARE, WIDE],
        "places": False,
        "texts_alone": False,
    },
}
