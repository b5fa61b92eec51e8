"""Every family's small random model, and the testbed's trained one, under the same questions.

A family is added to `../family_table.py`.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lmmsae_eval.errors import UsageError
from lmmsae_eval.sae.lmm import LMM, Batch, Hook, Hookpoint, Prompt
from lmmsae_eval.sae.residual import capture
from lmmsae_eval.sae.steering import add, together
from lmmsae_eval.sae.tokens import Span, TokenSet, token_mask
from lmmsae_eval.sae.topk import TopK
from PIL import Image
from torch import Tensor

SCRIPT = Path(__file__).parents[1] / "tiny_families.py"
families = SimpleNamespace(**runpy.run_path(str(SCRIPT)))
TESTBED = "testbed"
Known = dict[str, tuple[Batch, Tensor]]
NOT_CAUSAL = ("paligemma",)
QUESTIONS = "is there a boat ?|what colour ?|is this the sea|no|is it red in the house ?|yes ?|a|is"
TOKEN_SETS: list[TokenSet | Span] = ["all", "image", "question", "last", "generated", Span(-3, -1)]


@pytest.fixture(params=[TESTBED, *families.FAMILIES])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lmm(
    name: str,
    testbed_lmm: LMM,
    family_lmm: Callable[..., Any],
    hooks_on: Callable[[Any], list[str]],
) -> Iterator[Any]:
    model: Any = testbed_lmm if name == TESTBED else family_lmm(name)
    yield model
    assert not hooks_on(model.model)


@pytest.fixture
def no_picture_is_spoken(lmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model may say the image token, as which no forward takes it back."""
    image = [lmm.inputs._image_token]
    monkeypatch.setattr(lmm.model.generation_config, "suppress_tokens", image)


@pytest.fixture
def endless(no_picture_is_spoken: None, lmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer goes on to its last token, in every row."""
    monkeypatch.setattr(lmm.model.generation_config, "eos_token_id", None)


@pytest.fixture
def causal(name: str) -> None:
    if name in NOT_CAUSAL:
        pytest.skip("a prompt is read both ways: with its answer it is another prompt")


@pytest.fixture
def prompts(lmm: Any, name: str) -> list[Prompt]:
    """Eight of different lengths, some without an image where the model reads such, and with
    pictures of several shapes where it reads such.
    """
    rng = np.random.default_rng(0)
    family = families.FAMILIES.get(name)
    sizes = cycle(family.sizes if family else [(96, 96)])
    blind = (0, 3, 6) if reads_without_image(lmm) else ()
    return [
        Prompt(text, None if i in blind else Image.fromarray(pixels(rng, next(sizes))))
        for i, text in enumerate(QUESTIONS.split("|"))
    ]


@pytest.fixture(scope="session")
def known() -> Known:
    """Per model its batch and the stream there: read once."""
    return {}


@pytest.fixture
def batch(lmm: Any, name: str, prompts: list[Prompt], known: Known) -> Batch:
    if name not in known:
        prepared = lmm.prepare(prompts)
        known[name] = prepared, capture(lmm, prepared, [lmm.hookpoint(2)])[lmm.hookpoint(2)]
    prepared, _ = known[name]
    return Batch(prepared.inputs, prepared.kinds, prepared.boxes)


@pytest.fixture
def few(lmm: Any, prompts: list[Prompt]) -> Batch:
    """Of different lengths; a forward costs less."""
    return lmm.prepare(prompts[1:4])


@pytest.fixture
def hookpoint(lmm: Any) -> Hookpoint:
    return lmm.hookpoint(2)


@pytest.fixture
def x(name: str, batch: Batch, known: Known) -> Tensor:
    return known[name][1]


@pytest.fixture
def sae(batch: Batch, x: Tensor) -> TopK:
    """Random rows around the stream's mean."""
    return TopK.random(64, x.shape[-1], 4, 0, x[token_mask(batch.kinds, "all")].mean(0))


@pytest.fixture
def strong(sae: TopK, x: Tensor) -> Tensor:
    """`(8, 2)`: the strongest latents of each prompt's last token."""
    return sae.encode(x[:, -1]).indices[:, :2].long()


@pytest.fixture
def at_every_set(sae: TopK) -> Callable[[Tensor], Hook]:
    """Edits of every token set, each by another amount: none can stand in for another."""

    def edits(latents: Tensor) -> Hook:
        amounts = enumerate(TOKEN_SETS, 1)
        return together(*(add(sae, latents, 1.3 * i, tokens=tokens) for i, tokens in amounts))

    return edits


def pixels(rng: np.random.Generator, size: tuple[int, int]) -> Any:
    return rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def reads_without_image(lmm: Any) -> bool:
    try:
        lmm.prepare([Prompt("is")])
    except UsageError:
        return False
    return True
