"""Small random models of the real transformers classes, one a family, with real processors
(`family_table.py`).

The vocabulary is made here. A processor's part for videos is left out, as `load_lmm` does.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lmmsae_eval.sae.hf import TransformersLMM
from lmmsae_eval.sae.processors import pictures_only

WORDS = "is there a boat house in the sea ? what colour scene yes no red blue it this".split()
TURN = (
    "<s> {% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<answer> {% endif %}"
)
Size = tuple[int, int]
Settings = Mapping[str, Any]
TABLE = runpy.run_path(str(Path(__file__).with_name("family_table.py")))


@dataclass(frozen=True)
class Family:
    """One family: what its classes are given, and pictures to try it on."""

    classes: str
    """The name that its classes begin with."""
    image_processor: str
    pixels: Settings
    """For the image processor."""
    text: Settings
    vision: Settings
    turn: str | None = "<image>"
    """An image in the chat template; None where there is no template."""
    special: Sequence[str] = ("<image>",)
    named: Settings | None = None
    """Special tokens that the processor asks its tokenizer for, by name."""
    processor: Settings = field(default_factory=dict)
    config: Settings = field(default_factory=dict)
    ids: Settings = field(default_factory=lambda: {"image_token_id": "<image>"})
    """Fields of the config that hold the id of a token."""
    sizes: Sequence[Size] = ((64, 64), (120, 50), (40, 100))
    """Width and height of pictures, of several aspect ratios."""
    tiles: bool = False
    """Some of those sizes are read in tiles too."""
    places: bool = True
    texts_alone: bool = True
    """A prompt needs no image."""
    edge: int = 4
    """In pixels of the tower's own picture: of one token."""
    smeared: Sequence[Size] = ()
    """Sizes whose tokens are interpolated from their neighbours."""
    blur: float = 1.5
    """How many of the tower's pixels beyond its edge a patch shows after resizing."""

    def build(self) -> tuple[Any, Any]:
        """The model and its processor."""
        words = tokenizer(self.special, self.named)
        processor = self._processor(words)  # PaliGemma's adds words
        vocabulary = {"vocab_size": len(words), **_ends(words)}
        config = getattr(transformers(), f"{self.classes}Config")(
            text_config={**self.text, **vocabulary},
            vision_config=dict(self.vision),
            **self.config,
            **{name: words.convert_tokens_to_ids(token) for name, token in self.ids.items()},
        )
        model = getattr(transformers(), f"{self.classes}ForConditionalGeneration")(config)
        return model, processor

    def _processor(self, words: Any) -> Any:
        pixels = getattr(transformers(), self.image_processor)(**self.pixels)
        kind = getattr(transformers(), f"{self.classes}Processor")
        parts = [pixels, words]
        if "video_processor" in kind.get_attributes():
            kind, parts = pictures_only(kind), [*parts, None]
        if "qformer_tokenizer" in kind.get_attributes():
            parts.append(tokenizer([]))
        if self.classes == "PaliGemma":
            pixels.image_seq_length = 64
        template = {"chat_template": TURN.replace("IMAGE", self.turn)} if self.turn else {}
        return kind(*parts, **template, **self.processor)


def transformers() -> Any:
    import transformers

    return transformers


def tokenizer(special: Sequence[str], named: Settings | None = None) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing

    tokens = ["<pad>", "<s>", "</s>", "<unk>", "<answer>", *special]
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(tokens + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers().PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=named or ["<answer>", *special],
    )


def _ends(words: Any) -> dict[str, int]:
    return {f"{end}_token_id": getattr(words, f"{end}_token_id") for end in ("bos", "eos", "pad")}


FAMILIES = {name: Family(**given) for name, given in TABLE["TABLE"].items()}


def tiny(name: str, attention: bool = True, **settings: Any) -> TransformersLMM:
    """A family's small model; without `attention` its tower's blocks pass on what they get."""
    torch.manual_seed(0)
    model, processor = FAMILIES[name].build()
    if name == "gemma3":
        # transformers leaves it at zero: nothing of the picture would get through.
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)
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
    assert len(found) == TABLE["DEPTH"]
    return found
