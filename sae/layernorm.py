"""A TopK SAE of activations that are layer-normalised token by token, as openai's are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .topk import Latents, TopK

EPS = 1e-5
ALWAYS_ON = 3
"""Latents at the end that carry a token's scale and mean, see `LayerNormTopK`."""


@dataclass(frozen=True, eq=False)
class LayerNormTopK(TopK):
    """y = (x - mean(x)) / std(x), z = TopK(ReLU(W_enc y + b_enc)), x' = (z W_dec + b_pre) std(x) +
    mean(x).

    A token's std and mean are no matter of weights. They travel as three more latents that are
    always on: std (its row is b_pre), the mean's positive and its negative part (rows of ones and
    minus ones). The values of all others are in units of x, std included. So decode(encode(x)) and
    steering are exact; as features those three mean nothing, and tasks flag them as dense.
    """

    architecture = "layer_norm_topk"

    @classmethod
    def of(
        cls, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_pre: Tensor, k: int
    ) -> LayerNormTopK:
        """From weights `(n, d)`, biases `(n,)` and `(d,)` of an SAE that subtracts b_pre from y."""
        ones = torch.ones_like(b_pre)
        return cls(
            W_enc=torch.cat([W_enc, W_enc.new_zeros(ALWAYS_ON, len(b_pre))]),
            b_enc=torch.cat([b_enc - W_enc @ b_pre, b_enc.new_zeros(ALWAYS_ON)]),
            W_dec=torch.cat([W_dec, torch.stack([b_pre, ones, -ones])]),
            b_dec=torch.zeros_like(b_pre),
            k=k,
        )

    @property
    def inner(self) -> dict[str, Tensor]:
        """Weights and biases of the SAE of y, which encodes without subtracting b_dec."""
        n = self.n_latents - ALWAYS_ON
        return {
            "W_enc": self.W_enc[:n],
            "b_enc": self.b_enc[:n],
            "W_dec": self.W_dec[:n],
            "b_dec": self.W_dec[n],
        }

    def encode_parts(self, x: Tensor) -> Iterator[Latents]:
        """`(..., d_model)` to latents `(some, k + 3)`."""
        x = x.reshape(-1, self.d_model).to(self.W_enc)
        mean = x.mean(-1, keepdim=True)
        std = (x - mean).std(-1, keepdim=True)
        n, start = self.n_latents, 0
        always = torch.arange(n - ALWAYS_ON, n, dtype=torch.int32, device=x.device)
        for indices, values in super().encode_parts((x - mean) / (std + EPS)):
            rows = slice(start, start + len(values))
            scales = torch.cat([std[rows], mean[rows].relu(), (-mean[rows]).relu()], dim=-1)
            yield Latents(
                torch.cat([indices, always.expand(scales.shape)], dim=-1),
                torch.cat([values * std[rows], scales], dim=-1),
            )
            start = rows.stop
