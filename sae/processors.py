"""A model's processor, for text and pictures alone."""

from __future__ import annotations

from typing import Any


def load_processor(source: str, revision: str | None) -> Any:
    """As `AutoProcessor`, but a part for videos is left out: it needs torchvision, and no prompt
    here holds a video.
    """
    from transformers import AutoProcessor

    known = _class(source, revision)
    if known is None or "video_processor" not in known.get_attributes():
        return AutoProcessor.from_pretrained(source, revision=revision)
    return pictures_only(known).from_pretrained(source, revision=revision)


def pictures_only(processor_class: Any) -> Any:
    """The same class without its part for videos, which is to be given as None."""
    from transformers import ProcessorMixin

    class PicturesOnly(processor_class):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

        @classmethod
        def _get_arguments_from_pretrained(cls, *args: Any, **kwargs: Any) -> list[Any]:
            # `__init__` takes image processor, tokenizer, video processor, in this order.
            return [*super()._get_arguments_from_pretrained(*args, **kwargs), None]

        def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
            # SmolVLM's own asks the missing part how many frames a video has.
            return ProcessorMixin.apply_chat_template(self, *args, **kwargs)

    # Saved under its own name: others load it as what it is.
    PicturesOnly.__name__ = processor_class.__name__
    return PicturesOnly


def _class(source: str, revision: str | None) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    config = AutoConfig.from_pretrained(source, revision=revision)
    return PROCESSOR_MAPPING.get(type(config), None)
