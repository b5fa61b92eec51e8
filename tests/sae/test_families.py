"""Every family's real classes, small and random: where each image token looks, and that reading
and writing the residual stream means the same in all of them.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.blocks import decoder_blocks
from lmmsae_eval.sae.examination import examined
from lmmsae_eval.sae.hf import TransformersLMM
from lmmsae_eval.sae.image_tokens import ImageTokens, image_tokens
from lmmsae_eval.sae.lmm import Batch, Prompt, TokenKind
from lmmsae_eval.sae.load import load_lmm
from lmmsae_eval.tasks.features.masks import token_mask
from PIL import Image
from torch import Tensor

families = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "tiny_families.py")))
NAMES = list(families.FAMILIES)
TILED = [name for name in NAMES if families.FAMILIES[name].tiles]
BASE, TILE = int(TokenKind.IMAGE), int(TokenKind.TILE)
VIEWS = {"all": {BASE, TILE}, "base": {BASE}, "tile": {TILE}}
PLACED = [name for name in NAMES if families.FAMILIES[name].places]
QUESTION = "is there a boat ?"
Size = tuple[int, int]
Make = Callable[..., Any]


def background(size: Size, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 160, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse.repeat(4, 0).repeat(4, 1)[: size[1], : size[0]])


def with_patch(size: Size, box: Any) -> Any:
    image = background(size)
    image.paste((255, 255, 255), tuple(int(edge) for edge in box))
    return image


def into_the_decoder(lmm: TransformersLMM, batch: Batch) -> Tensor:
    """What the first block is given: image features where the image tokens are."""
    seen: list[Tensor] = []

    def keep(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    first = lmm.hookpoint(1)
    block = lmm.model.get_submodule(first.module)
    handle = block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.no_grad():
            lmm.forward(batch, stop_after=first)
    finally:
        handle.remove()
    return seen[0]


def patches_in(tokens: ImageTokens, size: Size, n: int, seed: int) -> np.ndarray:
    """`(n, 4)` rectangles of about an eighth of each edge, within what the tokens see."""
    boxes = tokens.boxes[tokens.kinds != TokenKind.SEPARATOR].numpy()
    low = np.ceil(boxes[:, :2].min(0).clip(0)).astype(int)
    high = np.floor(np.minimum(boxes[:, 2:].max(0), size)).astype(int)
    extent = np.maximum(np.array(size) // 8, 3)
    corners = np.random.default_rng(seed).integers(low, high - extent + 1, (n, 2))
    return np.concatenate([corners, corners + extent], 1)


def changes(lmm: TransformersLMM, size: Size, n: int) -> tuple[ImageTokens, np.ndarray, Tensor]:
    """The image tokens, `n` patches, and `(n, tokens)` how much each patch changes each token."""
    blank = lmm.prepare([Prompt("", background(size))])
    tokens = image_tokens(blank)[0]
    patches = patches_in(tokens, size, n, seed=size[0])
    pictures = [background(size), *(with_patch(size, patch) for patch in patches)]
    batch = lmm.prepare([Prompt("", picture) for picture in pictures])
    tokens = image_tokens(batch)[0]
    features = into_the_decoder(lmm, batch)[:, tokens.positions]
    return tokens, patches, (features[1:] - features[:1]).norm(dim=-1)


def overlap(boxes: Tensor, patch: np.ndarray) -> Tensor:
    """`(n, 2)` how far each box and the patch overlap, in x and y; negative is a gap."""
    corner = torch.from_numpy(patch)
    return torch.minimum(boxes[:, 2:], corner[2:]) - torch.maximum(boxes[:, :2], corner[:2])


@pytest.mark.parametrize("name", PLACED)
def test_a_patch_changes_the_embeddings_of_just_the_tokens_whose_boxes_cover_it(
    family_lmm: Make, name: str
) -> None:
    """Without a tower block nothing mixes: merging, pixel shuffle and tile order are all there is.

    Where the picture is resized, a resampled pixel sees some of its neighbours too.
    """
    family = families.FAMILIES[name]
    lmm = family_lmm(name, attention=False)
    for size in family.sizes:
        tokens, patches, change = changes(lmm, size, 10)
        place = tokens.kinds != TokenKind.SEPARATOR
        scale = (tokens.boxes[:, 2:] - tokens.boxes[:, :2]) / family.edge
        resized = (scale - 1).abs().amax(1, keepdim=True) > 1e-6
        blur = family.blur * scale.clamp_min(1) * resized
        if size in family.smeared:
            blur = blur + family.edge * scale
        missed = 0.5 * scale * (size in family.smeared)
        for patch, moved in zip(patches, change > 1e-4 * change.max(), strict=True):
            shared = overlap(tokens.boxes, patch)
            assert moved.any()
            assert moved[(shared > missed).all(1) & place].all(), (size, patch)
            assert not moved[~((shared > -blur).all(1) & place)].any(), (size, patch)


@pytest.mark.parametrize("name", PLACED)
def test_after_the_tower_the_token_that_a_patch_changes_most_covers_it(
    family_lmm: Make, name: str
) -> None:
    for size in families.FAMILIES[name].sizes:
        for kind, rate in found(family_lmm(name), size, 20).items():
            assert rate >= 0.95, (size, kind)


def found(lmm: TransformersLMM, size: Size, n: int) -> dict[str, float]:
    """Per kind the share of patches that the most changed token of that kind covers."""
    tokens, patches, change = changes(lmm, size, n)
    rates = {}
    for kind in (TokenKind.IMAGE, TokenKind.TILE):
        of_kind = (tokens.kinds == kind).nonzero()[:, 0]
        if len(of_kind):
            most = of_kind[change[:, of_kind].argmax(1)]
            hits = [
                bool((overlap(tokens.boxes[[token]], patch) > 0).all())
                for token, patch in zip(most.tolist(), patches, strict=True)
            ]
            rates[kind.name] = float(np.mean(hits))
    return rates


@pytest.mark.campaign
@pytest.mark.parametrize("name", PLACED)
def test_in_200_placements_a_size_too(family_lmm: Make, name: str) -> None:
    for size in families.FAMILIES[name].sizes:
        rates = found(family_lmm(name), size, 200)
        print(name, size, rates)  # noqa: T201 (the figures of docs/models.md)
        assert min(rates.values()) >= 0.95


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_of_the_kinds_that_the_family_has(family_lmm: Make, name: str) -> None:
    family = families.FAMILIES[name]
    lmm = family_lmm(name)
    batch = lmm.prepare([Prompt(QUESTION, background(size)) for size in family.sizes])
    seen = {TokenKind(int(kind)) for row in image_tokens(batch) for kind in row.kinds.unique()}
    wanted = {TokenKind.IMAGE} if family.places else {TokenKind.QUERY}
    wanted |= {TokenKind.TILE} if family.tiles else set()
    assert seen - {TokenKind.SEPARATOR} == wanted
    for row, size in zip(image_tokens(batch), family.sizes, strict=True):
        if family.places:
            covered = row.boxes[row.kinds == TokenKind.IMAGE]
            assert (covered[:, :2] < torch.tensor(size)).all()
            assert (covered[:, 2:] > 0).all()
        else:
            assert len(row) == 32
            assert not row.boxes.any()


@pytest.mark.parametrize("name", NAMES)
def test_published_names_of_layers_mean_the_real_blocks(family_lmm: Make, name: str) -> None:
    lmm = family_lmm(name)
    wanted = lmm.hookpoint(2)
    for ref in ("model.layers.1", "layers.1", "language_model.model.layers.1", wanted.module):
        assert lmm.hookpoint(ref) == wanted
    assert type(lmm.model.get_submodule(wanted.module)).__name__.endswith("DecoderLayer")


def prompts_of(name: str) -> list[Prompt]:
    family = families.FAMILIES[name]
    prompts = [
        Prompt(question, background(size, seed))
        for seed, (question, size) in enumerate(
            zip([QUESTION, "what colour"], family.sizes[1:], strict=False)
        )
    ]
    return [*prompts, Prompt("is it red ?")] if family.texts_alone else prompts


def logits_of(lmm: TransformersLMM, batch: Batch, hooks: Any = None) -> Tensor:
    with torch.no_grad():
        logits = lmm.forward(batch, hooks)
    assert logits is not None
    return logits


@pytest.mark.parametrize("name", NAMES)
def test_generation_starts_with_the_most_likely_token(family_lmm: Make, name: str) -> None:
    lmm = family_lmm(name)
    batch = lmm.prepare(prompts_of(name))
    best = logits_of(lmm, batch).argmax(-1)
    texts = lmm.processor.tokenizer.batch_decode(best[:, None], skip_special_tokens=True)
    assert lmm.generate(batch, 1) == [text.strip() for text in texts]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_loads_without_torchvision_and_gives_the_same_logits(
    family_lmm: Make, name: str, tmp_path: Path
) -> None:
    lmm = family_lmm(name)
    lmm.model.save_pretrained(tmp_path)
    lmm.processor.save_pretrained(tmp_path)
    loaded = load_lmm(tmp_path, device="cpu")
    prompts = prompts_of(name)
    before, after = lmm.prepare(prompts), loaded.prepare(prompts)
    assert torch.equal(before.kinds, after.kinds)
    logits = loaded.forward(after)
    assert logits is not None
    torch.testing.assert_close(logits, logits_of(lmm, before), rtol=1e-5, atol=1e-5)
    looked_at = examined(str(tmp_path), device="cpu")
    assert looked_at["layers"] == 3
    assert looked_at["class"] == type(lmm.model).__name__
    first = looked_at["image tokens"]["640 x 480"]
    assert ("without a place" in first) != families.FAMILIES[name].places


@pytest.mark.parametrize("name", TILED)
def test_masks_can_be_of_tiles_of_the_base_grid_or_of_both(name: str) -> None:
    """A latent that fires on all tokens that see a place: its mask of both is both masks' union."""
    size = families.FAMILIES[name].sizes[1]
    boxes, masks = {}, {}
    for view, kinds in VIEWS.items():
        lmm = families.tiny(name, view=view)
        batch = lmm.prepare([Prompt(QUESTION, background(size))])
        assert {int(kind) for kind in image_tokens(batch)[0].kinds} & {BASE, TILE} == kinds
        boxes[view] = batch.boxes[0].numpy()
        middle = np.array(size) / 2
        around = (boxes[view][:, :2] < middle + 4) & (boxes[view][:, 2:] > middle - 4)
        masks[view] = token_mask(boxes[view], np.flatnonzero(around.all(1)), size)
    every = {view: {tuple(box) for box in boxes[view].tolist()} for view in VIEWS}
    assert every["base"] | every["tile"] == every["all"]
    np.testing.assert_array_equal(masks["all"], masks["base"] | masks["tile"])
    assert masks["base"].sum() > masks["tile"].sum() > 0


@pytest.mark.parametrize("name", PLACED)
def test_the_papers_squash_is_one_grid_over_the_whole_of_any_picture(name: str) -> None:
    family = families.FAMILIES[name]
    batch = families.tiny(name, view="squash").prepare(
        [Prompt("", background(size)) for size in family.sizes]
    )
    counts = {len(boxes) for boxes in batch.boxes}
    assert len(counts) == 1  # a square, whatever the picture's shape was
    side = int(counts.pop() ** 0.5)
    for boxes, (width, height) in zip(batch.boxes, family.sizes, strict=True):
        assert len(boxes) == side**2
        step = boxes[0, 2:] - boxes[0, :2]
        sliver = step.tolist() if name == "llava_onevision" else [1e-3, 1e-3]
        assert boxes.amin(0)[:2].tolist() == [0, 0]
        assert width - sliver[0] <= float(boxes[-1, 2]) <= width + 1e-3
        assert height - sliver[1] <= float(boxes[-1, 3]) <= height + 1e-3
    assert not (batch.kinds == TILE).any()


def test_squashing_leaves_tokens_without_a_place_as_they_are() -> None:
    prompts = [Prompt(QUESTION, background((120, 50)))]
    batch = families.tiny("instructblip", view="squash").prepare(prompts)
    assert int((batch.kinds == TokenKind.QUERY).sum()) == 32


@pytest.mark.parametrize("name", ["paligemma", "instructblip"])
def test_a_family_that_needs_an_image_says_so(family_lmm: Make, name: str) -> None:
    with pytest.raises(UsageError, match="give one per prompt") as error:
        family_lmm(name).prepare([Prompt(QUESTION)])
    assert "\n" not in str(error.value)


def test_a_family_without_tiles_says_so() -> None:
    with pytest.raises(UsageError, match="have no tiles"):
        families.tiny("qwen2_vl", view="tile").prepare([Prompt("", background((64, 64)))])


def test_a_language_model_with_an_encoder_of_its_own_is_refused() -> None:
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration, T5Config

    t5 = T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=4, vocab_size=30)
    config = InstructBlipConfig(text_config=t5.to_dict())
    config.vision_config.num_hidden_layers = config.qformer_config.num_hidden_layers = 1
    with torch.device("meta"):
        model = InstructBlipForConditionalGeneration(config)
    with pytest.raises(UsageError, match="encoder-decoder language model") as error:
        decoder_blocks(model)
    assert "\n" not in str(error.value)
