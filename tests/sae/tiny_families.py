"""Small random models of the real transformers classes, one a family, with real processors.

The vocabulary is made here. A processor's part for videos is left out, as `load_lmm` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lmmsae_eval.sae.hf import TransformersLMM
from lmmsae_eval.sae.processors import pictures_only

WORDS = "is there a boat house in the sea ? what colour scene yes no red blue it this".split()
IMAGE_TURN = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<answer> {% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
Size = tuple[int, int]
DEPTH = 2


def template(image: str) -> str:
    return "<s> " + IMAGE_TURN.replace("IMAGE", image)


def tokenizer(special: Sequence[str], named: dict[str, str] | None = None) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<s>", "</s>", "<unk>", "<answer>", *special]
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(tokens + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=named or ["<answer>", *special],
    )


def ids(of: Any) -> dict[str, int]:
    return {
        "vocab_size": len(of),
        "bos_token_id": of.bos_token_id,
        "eos_token_id": of.eos_token_id,
        "pad_token_id": of.pad_token_id,
    }


def llava() -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer(["<image>"])
    side = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side),
        words,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    vision = CLIPVisionConfig(**TOWER, num_hidden_layers=DEPTH, image_size=32, patch_size=4)
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**TEXT, **ids(words)),
        image_token_id=processor.image_token_id,
        vision_feature_layer=-1,
        image_seq_length=64,
    )
    return LlavaForConditionalGeneration(config), processor


def llava_next() -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
    )

    words = tokenizer(["<image>"])
    side = {"height": 32, "width": 32}
    pinpoints = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": 32}, crop_size=side, image_grid_pinpoints=pinpoints
        ),
        words,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    vision = CLIPVisionConfig(**TOWER, num_hidden_layers=DEPTH, image_size=32, patch_size=4)
    config = LlavaNextConfig(
        vision_config=vision,
        text_config=LlamaConfig(**TEXT, **ids(words)),
        image_token_id=processor.image_token_id,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        image_seq_length=64,
    )
    return LlavaNextForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
        LlavaOnevisionProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    words = tokenizer(["<image>", "<video>"])
    pinpoints = [[34 * h, 34 * w] for h in range(1, 4) for w in range(1, 4)]
    processor = pictures_only(LlavaOnevisionProcessor)(
        LlavaOnevisionImageProcessorPil(
            size={"height": 34, "width": 34}, image_grid_pinpoints=pinpoints
        ),
        words,
        None,
        num_image_tokens=64,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        chat_template=template("<image>"),
    )
    vision = SiglipVisionConfig(
        **TOWER, num_hidden_layers=DEPTH, image_size=34, patch_size=4, vision_use_head=False
    )
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**TEXT, **ids(words)),
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def _qwen_parts(patch: int) -> tuple[Any, Any]:
    from transformers import Qwen2VLImageProcessorPil

    special = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    return tokenizer(special), Qwen2VLImageProcessorPil(
        size=pixels, patch_size=patch, merge_size=2, temporal_patch_size=2
    )


def _qwen_ids(words: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {field_: words.convert_tokens_to_ids(token) for field_, token in names.items()}


def _mrope(**more: Any) -> dict[str, Any]:
    section = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, **more}
    return {**TEXT, "rope_parameters": section}


def qwen2_vl() -> tuple[Any, Any]:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    words, pixels = _qwen_parts(4)
    processor = pictures_only(Qwen2VLProcessor)(
        pixels, words, None, chat_template=template(QWEN_IMAGE)
    )
    config = Qwen2VLConfig(
        text_config={**_mrope(), **ids(words)},
        vision_config={
            "depth": DEPTH,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 4,
        },
        **_qwen_ids(words),
    )
    return Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl() -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
    )

    words, pixels = _qwen_parts(4)
    processor = pictures_only(Qwen2_5_VLProcessor)(
        pixels, words, None, chat_template=template(QWEN_IMAGE)
    )
    config = Qwen2_5_VLConfig(
        text_config={**_mrope(), **ids(words)},
        vision_config={
            "depth": DEPTH,
            "hidden_size": 32,
            "out_hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "patch_size": 4,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        **_qwen_ids(words),
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> tuple[Any, Any]:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    words, pixels = _qwen_parts(4)
    processor = pictures_only(Qwen3VLProcessor)(
        pixels, words, None, chat_template=template(QWEN_IMAGE)
    )
    config = Qwen3VLConfig(
        text_config={**_mrope(mrope_interleaved=True), "head_dim": 8, **ids(words)},
        vision_config={
            "depth": DEPTH,
            "hidden_size": 32,
            "out_hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_ids(words),
    )
    return Qwen3VLForConditionalGeneration(config), processor


SPLIT_TOKENS = [
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)),
]


def idefics3() -> tuple[Any, Any]:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
        LlamaConfig,
    )

    words = tokenizer(SPLIT_TOKENS)
    pixels = Idefics3ImageProcessorPil(
        size={"longest_edge": 96}, max_image_size={"longest_edge": 32}
    )
    processor = Idefics3Processor(
        pixels, words, image_seq_len=16, chat_template=template("<image>")
    )
    config = Idefics3Config(
        vision_config={**TOWER, "num_hidden_layers": DEPTH, "image_size": 32, "patch_size": 4},
        text_config=LlamaConfig(**TEXT, **ids(words)),
        image_token_id=processor.image_token_id,
        scale_factor=2,
    )
    return Idefics3ForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessorPil,
        SmolVLMProcessor,
    )

    words = tokenizer([*SPLIT_TOKENS, "<video>"])
    pixels = SmolVLMImageProcessorPil(
        size={"longest_edge": 96}, max_image_size={"longest_edge": 32}
    )
    processor = pictures_only(SmolVLMProcessor)(
        pixels, words, None, image_seq_len=16, chat_template=template("<image>")
    )
    config = SmolVLMConfig(
        vision_config={**TOWER, "num_hidden_layers": DEPTH, "image_size": 32, "patch_size": 4},
        text_config=LlamaConfig(**TEXT, **ids(words)),
        image_token_id=processor.image_token_id,
        scale_factor=2,
    )
    return SmolVLMForConditionalGeneration(config), processor


def internvl() -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessorPil,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        Qwen2Config,
    )

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer(list(named.values()), named)
    pixels = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, max_patches=6)
    processor = pictures_only(InternVLProcessor)(
        pixels, words, None, image_seq_length=16, chat_template=template("<IMG_CONTEXT>")
    )
    config = InternVLConfig(
        vision_config={**TOWER, "num_hidden_layers": DEPTH, "image_size": 32, "patch_size": 4},
        text_config=Qwen2Config(**TEXT, **ids(words)),
        image_token_id=processor.image_token_id,
        image_seq_length=16,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    return InternVLForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    words = tokenizer(["<image>"])
    pixels = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    pixels.image_seq_length = 64
    processor = PaliGemmaProcessor(pixels, words)
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(
            **TOWER, num_hidden_layers=DEPTH, image_size=32, patch_size=4, vision_use_head=False
        ),
        text_config=GemmaConfig(**TEXT, head_dim=8, **ids(words)),
        image_token_index=processor.image_token_id,
        vocab_size=len(words),
        projection_dim=32,
        hidden_size=32,
    )
    return PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        SiglipVisionConfig,
    )

    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    words = tokenizer(list(named.values()), named)
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 64, "width": 64}),
        words,
        chat_template=template("<start_of_image>"),
        image_seq_length=64,
    )
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(
            **TOWER, num_hidden_layers=DEPTH, image_size=64, patch_size=4, vision_use_head=False
        ),
        text_config={**TEXT, "head_dim": 8, "sliding_window": 64, **ids(words)},
        mm_tokens_per_image=64,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
        image_token_index=words.image_token_id,
        image_token_id=words.image_token_id,
    )
    model = Gemma3ForConditionalGeneration(config)
    # transformers leaves it at zero: nothing of the picture would get through.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)
    return model, processor


def instructblip() -> tuple[Any, Any]:
    from transformers import (
        BlipImageProcessorPil,
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipProcessor,
        LlamaConfig,
    )

    words = tokenizer(["<image>"])
    processor = InstructBlipProcessor(
        BlipImageProcessorPil(size={"height": 32, "width": 32}),
        words,
        tokenizer([]),
        num_query_tokens=32,
    )
    config = InstructBlipConfig(
        vision_config={
            **TOWER,
            "num_hidden_layers": DEPTH,
            "image_size": 32,
            "patch_size": 4,
            "initializer_range": 0.02,
        },
        qformer_config={
            **TOWER,
            "num_hidden_layers": 2,
            "vocab_size": len(words),
            "encoder_hidden_size": 32,
        },
        text_config=LlamaConfig(**TEXT, **ids(words)).to_dict(),
        num_query_tokens=32,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return InstructBlipForConditionalGeneration(config), processor


@dataclass(frozen=True)
class Family:
    """One family's small model, and pictures to try it on."""

    build: Callable[[], tuple[Any, Any]]
    sizes: Sequence[Size]
    """Width and height of pictures, of several aspect ratios."""
    tiles: bool = False
    """Some of those sizes are read in tiles too."""
    places: bool = True
    texts_alone: bool = True
    """A prompt needs no image."""
    pixels: int = 4
    """Of the tower's own picture, along the edge of one token."""
    smeared: Sequence[Size] = ()
    """Sizes whose tokens are interpolated from their neighbours."""
    blur: float = 1.5
    """How many of the tower's pixels beyond its edge a patch shows after resizing."""


WIDE, TALL, SQUARE, SMALL = (120, 50), (40, 100), (64, 64), (30, 24)
# Resized in two passes: (96, 64) and (32, 96) are left as they are.
SPLIT = [(96, 64), WIDE, (32, 96), SMALL]
FAMILIES = {
    "llava": Family(llava, [SQUARE, WIDE, TALL]),
    "llava_next": Family(llava_next, [SQUARE, WIDE, TALL, (200, 150)], tiles=True),
    "llava_onevision": Family(
        # Its tower's side is no multiple of its patch, as the published one's: 34 = 8 x 4 + 2.
        llava_onevision,
        [(68, 68), WIDE, TALL, (96, 90)],
        tiles=True,
        smeared=[(96, 90)],
    ),
    "qwen2_vl": Family(qwen2_vl, [SQUARE, WIDE, TALL, (200, 150)], pixels=8),
    "qwen2_5_vl": Family(qwen2_5_vl, [SQUARE, WIDE, TALL, (200, 150)], pixels=8),
    "qwen3_vl": Family(qwen3_vl, [SQUARE, WIDE, TALL, (200, 150)], pixels=8),
    "idefics3": Family(idefics3, SPLIT, tiles=True, pixels=8, blur=7.5),
    "smolvlm": Family(smolvlm, SPLIT, tiles=True, pixels=8, blur=7.5),
    "internvl": Family(internvl, [SQUARE, WIDE, TALL, SMALL], tiles=True, pixels=8),
    "paligemma": Family(paligemma, [SQUARE, WIDE, TALL], texts_alone=False),
    "gemma3": Family(gemma3, [SQUARE, WIDE, TALL], pixels=8),
    "instructblip": Family(instructblip, [SQUARE, WIDE], places=False, texts_alone=False),
}


def tiny(name: str, attention: bool = True, **settings: Any) -> TransformersLMM:
    """A family's small model; without `attention` its tower's blocks pass on what they get."""
    torch.manual_seed(0)
    model, processor = FAMILIES[name].build()
    if not attention:
        for block in tower_blocks(model):
            block.forward = lambda hidden_states, *args, **kwargs: hidden_states
    return TransformersLMM(model, processor, name, name, **settings)


def tower_blocks(model: Any) -> list[Any]:
    """The blocks of the vision tower."""
    found = [
        block
        for path, part in model.named_modules()
        if isinstance(part, torch.nn.ModuleList)
        and ("vision" in path or "visual" in path)
        and path.rpartition(".")[2] in ("layers", "layer", "blocks")
        for block in part
    ]
    assert len(found) == DEPTH
    return found
