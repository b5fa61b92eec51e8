"""A linear LMM of a few lines whose residual stream is the prompt's own: exact answers for
everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from lmmsae_eval.sae.lmm import LMM, Batch, Hook, Hookpoint, Prompt, TokenKind, resolve_hookpoint
from lmmsae_eval.sae.load import load_lmm
from lmmsae_eval.sae.topk import TopK
from torch import Tensor

KINDS = [
    TokenKind.PAD,
    TokenKind.BOS,
    TokenKind.IMAGE,
    TokenKind.IMAGE,
    TokenKind.IMAGE,
    TokenKind.TEXT,
    TokenKind.TEXT,
]


class LinearLMM:
    """Every block passes the stream on as it is; logit(yes) - logit(no) is a fixed linear read-out
    of it.

    A prompt's text seeds its residual stream, or names an entry of `streams`.
    """

    name = "linear toy"
    identity = "linear"
    n_layers = 4

    def __init__(self, d_model: int = 8, streams: Mapping[str, Tensor] | None = None) -> None:
        self.d_model = d_model
        self.streams = streams or {}
        self.forwards = 0
        generator = torch.Generator().manual_seed(7)
        self.readout = torch.randn(len(KINDS), d_model, generator=generator, dtype=torch.float64)
        self.readout[0] = 0  # padding is never looked at

    def hookpoint(self, ref: str | int) -> Hookpoint:
        return resolve_hookpoint(ref, [f"blocks.{i}" for i in range(self.n_layers)], self.name)

    def prepare(self, prompts: Sequence[Prompt]) -> Batch:
        x = torch.stack([self._stream(prompt.text) for prompt in prompts])
        kinds = torch.tensor(KINDS, dtype=torch.int8).expand(len(prompts), -1)
        return Batch({"x": x}, kinds, [torch.arange(12.0).reshape(3, 4)] * len(prompts))

    def _stream(self, text: str) -> Tensor:
        if text in self.streams:
            return self.streams[text]
        generator = torch.Generator().manual_seed(int(text))
        return torch.randn(len(KINDS), self.d_model, generator=generator, dtype=torch.float64)

    def forward(
        self,
        batch: Batch,
        hooks: Mapping[Hookpoint, Hook] | None = None,
        stop_after: Hookpoint | None = None,
    ) -> Tensor | None:
        self.forwards += 1
        x = batch.inputs["x"]
        for layer in range(self.n_layers):
            hookpoint = self.hookpoint(layer + 1)
            x = hooks[hookpoint](x, batch) if hooks and hookpoint in hooks else x
            if stop_after == hookpoint:
                return None
        metric = (x * self.readout[-x.shape[1] :]).sum((1, 2))
        return torch.stack([metric / 2, -metric / 2], dim=1)

    def generate(
        self, batch: Batch, max_new_tokens: int, hooks: Mapping[Hookpoint, Hook] | None = None
    ) -> list[str]:
        logits = self.forward(batch, hooks)
        assert logits is not None
        return ["yes" if row[0] > row[1] else "no" for row in logits]

    def token_id(self, word: str) -> int:
        return ["yes", "no"].index(word)


@pytest.fixture
def linear_lmm() -> LinearLMM:
    return LinearLMM()


@pytest.fixture
def random_sae() -> TopK:
    """Double precision, untied, biases not zero: 20 latents on 8 dimensions, k = 3."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return TopK(
        draw(20, 8),
        0.1 * draw(20),
        torch.nn.functional.normalize(draw(20, 8), dim=1),
        0.2 * draw(8),
        3,
    )


@pytest.fixture(scope="session")
def testbed_lmm() -> LMM:
    """The trained LLaVA that ships with the package."""
    return load_lmm("testbed")


def _hooks_on(model: Any) -> list[str]:
    """Modules that carry something of ours (transformers leaves hooks of its own)."""
    return [
        name
        for name, module in model.named_modules()
        if "forward" in module.__dict__
        or any(hook.__module__.startswith("lmmsae_eval") for hook in module._forward_hooks.values())
    ]


@pytest.fixture
def hooks_on() -> Callable[[Any], list[str]]:
    """Says what of ours a model carries."""
    return _hooks_on


@pytest.fixture(scope="session")
def family_lmm(tiny_families: Any) -> Callable[..., Any]:
    """`tiny_families.tiny`, each model made once."""
    made: Callable[..., Any] = cache(tiny_families.tiny)
    return made
