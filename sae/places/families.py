"""Which layout a model's image tokens have, by its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .anyres import anyres_views
from .single import single_view
from .tiled import canvas_views, crop_views, split_views
from .views import Placed, View, grid, placed, without_place


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as it went into the processor and came out."""

    width: int
    height: int
    n_tokens: int
    grid: tuple[int, int] | None = None
    """Rows and columns of patches, where the processor says them."""
    one_view: bool = False
    """The tower is given one array of pixels for it, not several."""


Layout = Callable[[Any, Any, Picture], list[View] | None]


def _fixed(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    patch = getattr(getattr(config, "vision_config", None), "patch_size", None)
    return single_view(
        processor.image_processor,
        picture.width,
        picture.height,
        picture.n_tokens,
        patch if isinstance(patch, int) else None,
    )


def _anyres(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    return anyres_views(config, picture.width, picture.height)


def _dynamic(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    """Qwen: the whole picture at its own resolution, patches merged in squares."""
    if picture.grid is None:
        return None
    merge = int(processor.image_processor.merge_size)
    rows, columns = (n // merge for n in picture.grid)
    return [grid((0.0, 0.0, float(picture.width), float(picture.height)), rows, columns)]


def _split(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    return split_views(processor, picture.width, picture.height, picture.n_tokens)


def _canvas(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    return canvas_views(processor, picture.width, picture.height, picture.n_tokens)


def _crops(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    return crop_views(processor, picture.width, picture.height, picture.n_tokens)


def _queries(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    """A Q-Former's queries each look at the whole picture."""
    return None


def _by_evidence(config: Any, processor: Any, picture: Picture) -> list[View] | None:
    """A family that nobody has described: a grid only where nothing else is possible."""
    if picture.grid is not None and hasattr(processor.image_processor, "merge_size"):
        return _dynamic(config, processor, picture)
    return _fixed(config, processor, picture) if picture.one_view else None


LAYOUTS: dict[str, Layout] = {
    "llava": _fixed,
    "vipllava": _fixed,
    "paligemma": _fixed,
    "llava_next": _anyres,
    "llava_onevision": _anyres,
    "qwen2_vl": _dynamic,
    "qwen2_5_vl": _dynamic,
    "qwen3_vl": _dynamic,
    "idefics3": _split,
    "smolvlm": _split,
    "internvl": _canvas,
    "gemma3": _crops,
    "instructblip": _queries,
    "blip-2": _queries,
}
"""By `model_type`. One that is missing here goes by evidence."""


def place(config: Any, processor: Any, picture: Picture) -> Placed:
    """The kind and box of each of a picture's tokens.

    Where the layout is not known, or does not add up to the tokens that are there, they have no
    place: `TokenKind.QUERY` and an empty box.
    """
    layout = LAYOUTS.get(str(config.model_type), _by_evidence)
    views = layout(config, processor, picture)
    if views is None or sum(map(len, views)) != picture.n_tokens:
        return without_place(picture.n_tokens)
    return placed(views)
