"""The LMM put together: transformers' own LLaVA, a word-level tokenizer, a real processor."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ..world.render import PATCH
from ..world.scene import SIZE
from .vision import vision_config
from .words import all_words

PAD, BOS, EOS, IMAGE, UNKNOWN = "<pad>", "<s>", "</s>", "<image>", "<unk>"
SPECIAL = (PAD, BOS, EOS, IMAGE, UNKNOWN)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ ' <image>' }}{% else %}{{ ' ' + part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
"""`<s> <image> is there a boat ?`: the answer follows at once."""


def token_ids() -> dict[str, int]:
    return {word: i for i, word in enumerate((*SPECIAL, *all_words()))}


def new_tokenizer(ids: dict[str, int] | None = None) -> PreTrainedTokenizerFast:
    model = Tokenizer(WordLevel(ids or token_ids(), unk_token=UNKNOWN))
    model.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def new_image_processor() -> CLIPImageProcessorPil:
    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=half,
        image_std=half,
    )


def new_processor() -> LlavaProcessor:
    return LlavaProcessor(
        image_processor=new_image_processor(),
        tokenizer=new_tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def new_lmm(tower: CLIPVisionModel, seed: int) -> LlavaForConditionalGeneration:
    """An untrained language model behind a trained vision tower."""
    torch.manual_seed(seed)
    ids = token_ids()
    text = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=ids[PAD],
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        tie_word_embeddings=True,
        initializer_range=0.06,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=ids[IMAGE],
        image_seq_length=(SIZE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    like_attends_to_like(model)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    for name, value in (("pad", PAD), ("bos", BOS), ("eos", EOS)):
        setattr(model.generation_config, f"{name}_token_id", ids[value])
    return model


@torch.no_grad()
def like_attends_to_like(model: LlavaForConditionalGeneration, copied: float = 0.4) -> None:
    """Start attention where training would take long to get: keys equal queries, values are copied.

    The word `boat` then looks at image tokens that show a boat from the first step. Mimetic
    initialisation (Trockman and Kolter 2023, arXiv 2305.09828), without its position part.
    """
    for block in model.model.language_model.layers:
        attention = block.self_attn
        torch.nn.init.orthogonal_(attention.q_proj.weight)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(copied * attention.v_proj.weight.T)
