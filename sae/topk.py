"""The TopK sparse autoencoder of the paper."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .lmm import Hookpoint
from .sparse import weighted_rows


class Latents(NamedTuple):
    """Sparse latents, `k` a token. A slot whose value is 0 is unused, whatever its index."""

    indices: Tensor
    """`(..., k)` int32."""
    values: Tensor
    """`(..., k)`, never negative."""


@dataclass(frozen=True, eq=False)
class TopK:
    """z = TopK(ReLU(W_enc (x - b_dec) + b_enc)), x' = z W_dec + b_dec. Rows of both weights are
    latents.

    Ties at the k-th place break as `torch.topk` breaks them: any of the tied latents, the same one
    each time on one device.
    """

    W_enc: Tensor
    """`(n_latents, d_model)`."""
    b_enc: Tensor
    """`(n_latents,)`."""
    W_dec: Tensor
    """`(n_latents, d_model)`, rows of unit norm when trained here."""
    b_dec: Tensor
    """`(d_model,)`: subtracted before encoding, added after decoding."""
    k: int

    def __post_init__(self) -> None:
        n, d = self.W_enc.shape
        if self.W_dec.shape != (n, d) or self.b_enc.shape != (n,) or self.b_dec.shape != (d,):
            raise ValueError(
                "tensors of one SAE disagree: W_enc, b_enc, W_dec, b_dec are "
                + ", ".join(str(tuple(tensor.shape)) for tensor in self.tensors)
            )
        if not 1 <= self.k <= n:
            raise ValueError(f"k is {self.k} but the SAE has {n} latents")

    @classmethod
    def random(
        cls, n_latents: int, d_model: int, k: int, seed: int, b_dec: Tensor | None = None
    ) -> TopK:
        """An SAE before training: random unit rows, encoder tied to decoder."""
        generator = torch.Generator().manual_seed(seed)
        rows = normalize(torch.randn(n_latents, d_model, generator=generator), dim=1)
        bias = torch.zeros(d_model) if b_dec is None else b_dec
        rows = rows.to(bias)
        return cls(rows.clone(), rows.new_zeros(n_latents), rows, bias.clone(), k)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_enc, b_enc, W_dec, b_dec."""
        return self.W_enc, self.b_enc, self.W_dec, self.b_dec

    @property
    def n_latents(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[1]

    @cached_property
    def identity(self) -> str:
        """sha256 of k and the weights. Read it only when training is over."""
        digest = hashlib.sha256(f"topk {self.k}".encode())
        for tensor in self.tensors:
            flat = tensor.detach().cpu().contiguous()
            digest.update(f"{flat.dtype} {tuple(flat.shape)}".encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def pre_activations(self, x: Tensor) -> Tensor:
        """Dense `(tokens, n_latents)`: for a training step, not for keeping."""
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc.T)

    def encode(self, x: Tensor) -> Latents:
        """`(..., d_model)` of any float dtype to latents `(..., k)` in the SAE's own."""
        flat = x.reshape(-1, self.d_model).to(self.W_enc)
        values, indices = self.pre_activations(flat).topk(self.k, sorted=True)
        shape = (*x.shape[:-1], self.k)
        return Latents(indices.int().reshape(shape), values.relu().reshape(shape))

    def decode(self, latents: Latents) -> Tensor:
        """Latents `(..., k)` to `(..., d_model)`."""
        return weighted_rows(self.W_dec, *latents) + self.b_dec

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def untrained(self, seed: int = 0) -> TopK:
        """The control: weights as before training; b_dec, the data's mean, is kept."""
        return TopK.random(self.n_latents, self.d_model, self.k, seed, self.b_dec)

    def to(self, like: torch.device | torch.dtype | str) -> TopK:
        W_enc, b_enc, W_dec, b_dec = (tensor.to(like) for tensor in self.tensors)
        return TopK(W_enc, b_enc, W_dec, b_dec, self.k)


@dataclass(frozen=True)
class TrainedSae:
    """An SAE bound to the place in a model that it reads: what tasks get."""

    name: str
    hookpoint: Hookpoint
    sae: TopK
    identity: str = ""
    """sha256 of the weights; filled in when not given."""
    arm: str = "main"
    """`main`, or `untrained` for the control."""

    def __post_init__(self) -> None:
        if not self.identity:
            object.__setattr__(self, "identity", self.sae.identity)

    def untrained(self, seed: int = 0) -> TrainedSae:
        """The control arm of this SAE."""
        return TrainedSae(self.name, self.hookpoint, self.sae.untrained(seed), arm="untrained")
