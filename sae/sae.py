"""What every SAE is, whatever its architecture: weights, sparse latents, a reconstruction, a name.

One architecture is one file: a subclass of `SAE` that says which latents fire. `architectures.py`
lists them, each with the trainer that makes it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ..errors import UsageError
from .lmm import Hookpoint
from .scratch import borrowed
from .sparse import weighted_rows

if TYPE_CHECKING:
    from .topk import TopK

_DENSE_VALUES = 2**24
"""Pre-activations made at a time: 64 MiB in float32, whatever the number of tokens."""
_KEPT_TIMES = 2
"""So many times more where their memory is used again: each further part packs all of W_enc anew,
which costs a fourteenth of the product.
"""
_SLOTS = 2**28
"""Latents held at a time, empty slots included: 2 GiB."""


class Latents(NamedTuple):
    """Sparse latents, `k` slots a token. A slot whose value is 0 is unused, whatever its index."""

    indices: Tensor
    """`(..., k)` int32."""
    values: Tensor
    """`(..., k)`, never negative."""


@dataclass(frozen=True, eq=False)
class SAE(ABC):
    """x' = z W_dec + b_dec, z sparse and made from W_enc (x - b_dec) + b_enc.

    Rows of both weights are latents. An architecture that does not subtract b_dec before encoding
    fits too: b_enc + W_enc b_dec is its b_enc here.
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
    """Latents a token: at most, on average or aimed at, as the architecture says."""

    free_l0: ClassVar[bool] = False
    """Whether as many latents fire on a token as like to. Then k is an aim, 0 where unknown."""
    architecture: ClassVar[str]
    """The name in `architectures.py`, in run documents and in `identity`."""

    def __post_init__(self) -> None:
        n, d = self.W_enc.shape
        weights = (self.W_enc, self.b_enc, self.W_dec, self.b_dec)
        if [tuple(tensor.shape) for tensor in weights] != [(n, d), (n,), (n, d), (d,)]:
            raise ValueError(
                "tensors of one SAE disagree: W_enc, b_enc, W_dec, b_dec are "
                + ", ".join(str(tuple(tensor.shape)) for tensor in weights)
            )
        if not (0 if self.free_l0 else 1) <= self.k <= n:
            raise ValueError(f"k is {self.k} but the SAE has {n} latents")

    @abstractmethod
    def choose(self, pre: Tensor) -> Latents:
        """Which latents fire, strongest first: `(tokens, n_latents)` pre-activations to
        `(tokens, slots)`. The number of slots is the architecture's own, and at least 1.
        """

    @classmethod
    def _at_start(cls, rows: Tensor) -> dict[str, Any]:
        """The fields that an architecture adds, before training; `rows` are the weights."""
        return {}

    def _at_scale(self, scale: float) -> dict[str, Tensor]:
        """The added tensors that `scale` times larger latents need."""
        return {}

    @classmethod
    def random(
        cls, n_latents: int, d_model: int, k: int, seed: int, b_dec: Tensor | None = None
    ) -> Self:
        """An SAE before training: random unit rows, encoder tied to decoder."""
        generator = torch.Generator().manual_seed(seed)
        rows = normalize(torch.randn(n_latents, d_model, generator=generator), dim=1)
        bias = torch.zeros(d_model) if b_dec is None else b_dec
        rows = rows.to(bias)
        no_bias = rows.new_zeros(n_latents)
        return cls(rows.clone(), no_bias, rows, bias.clone(), k, **cls._at_start(rows))

    def untrained(self, seed: int = 0, k: int | None = None) -> TopK:
        """The control: weights as before training; b_dec, the data's mean, is kept.

        Always a TopK, with the same k unless another is given: a threshold without training would
        not give the same L0.
        """
        from .topk import TopK

        return TopK.random(self.n_latents, self.d_model, k or self.k, seed, self.b_dec)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """W_enc, b_enc, W_dec, b_dec, then the architecture's own."""
        return tuple(self.named_tensors.values())

    @property
    def named_tensors(self) -> dict[str, Tensor]:
        """`tensors` by the names of their fields."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, Tensor)}

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """Those of `tensors` that gradients move."""
        return self.tensors

    @property
    def n_latents(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[1]

    @cached_property
    def identity(self) -> str:
        """sha256 of architecture, settings and weights. Read it only when training is over."""
        values = (getattr(self, field.name) for field in fields(self))
        settings = [str(value) for value in values if not isinstance(value, Tensor)]
        label = " ".join([self.architecture, *settings])
        digest = hashlib.sha256(label.encode())
        for tensor in self.tensors:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(f"{flat.dtype} {tuple(tensor.shape)}".encode())
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def pre_activations(self, x: Tensor) -> Tensor:
        """Dense `(tokens, n_latents)`: for a training step, not for keeping."""
        return torch.addmm(self.b_enc, x - self.b_dec, self.W_enc.T)

    @property
    def tokens_at_a_time(self) -> int:
        """Whose pre-activations are in memory together."""
        return max(1, _DENSE_VALUES // self.n_latents)

    def dense_parts(self, x: Tensor, kept: bool = False) -> Iterator[Tensor]:
        """`pre_activations` of some tokens at a time, in order: `(some, n_latents)` each.

        All in one buffer, unless autograd needs them: be done with one before the next. With `kept`
        parts are larger and the buffer stays for the next call, which a training step has no memory
        to spare for.
        """
        size = self.tokens_at_a_time * (_KEPT_TIMES if kept else 1)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self.tensors)):
            yield from (self.pre_activations(part) for part in torch.split(x, size))
            return
        shape = min(size, len(x)), self.n_latents
        with borrowed(shape[0] * shape[1], x) if kept else nullcontext(x.new_empty(shape)) as room:
            buffer = room.view(shape)
            for part in torch.split(x, size):
                out = buffer[: len(part)]
                yield torch.addmm(self.b_enc, part - self.b_dec, self.W_enc.T, out=out)

    def encode(self, x: Tensor) -> Latents:
        """`(..., d_model)` of any float dtype to latents `(..., slots)` in the SAE's own: as many
        slots as the busiest token needs. Raises `UsageError` where that is too much to hold.
        """
        parts = list(self.encode_parts(x))
        slots = max(part.values.shape[-1] for part in parts)
        self.refuse_too_many(sum(len(part.values) for part in parts), slots)
        latents = joined(parts)
        shape = (*x.shape[:-1], slots)
        return Latents(latents.indices.reshape(shape), latents.values.reshape(shape))

    def refuse_too_many(self, tokens: int, slots: int) -> None:
        """Raises `UsageError` where so many slots for each of so many tokens can't be held."""
        if tokens * slots > _SLOTS:
            raise UsageError(
                f"on one of {tokens} tokens {slots} of {self.n_latents} latents fire, too many to "
                "hold as many for each; is the SAE one of these activations? Else take smaller "
                "batches"
            )

    def encode_parts(self, x: Tensor) -> Iterator[Latents]:
        """The latents of `(..., d_model)`, some tokens `(some, slots)` at a time, in order. Each
        part has slots of its own: one busy token makes but its own part wide.
        """
        flat = x.reshape(-1, self.d_model).to(self.W_enc)
        for pre in self.dense_parts(flat, kept=True):
            indices, values = self.choose(pre)
            yield Latents(indices.int(), values)

    def decode(self, latents: Latents) -> Tensor:
        """Latents `(..., slots)` to `(..., d_model)`."""
        return weighted_rows(self.W_dec, *latents) + self.b_dec

    def reconstruct(self, x: Tensor) -> Tensor:
        first, *others = [self.decode(part) for part in self.encode_parts(x)]
        return (torch.cat([first, *others]) if others else first).reshape(x.shape)

    def folded(self, mean: Tensor, scale: float) -> Self:
        """The same SAE for unnormalised x, if this one was trained on (x - mean) / scale.

        Latents and reconstruction come out `scale` times larger, the decoder's rows stay as long.
        `mean` is `(d_model,)`, `scale` positive.
        """
        if not scale > 0:
            raise ValueError(f"the scale of an input normalisation is {scale}; it must be positive")
        added: dict[str, Any] = self._at_scale(scale)
        return replace(
            self,
            b_enc=self.b_enc * scale,
            b_dec=self.b_dec * scale + mean,
            **added,
        )

    def to(self, like: torch.device | torch.dtype | str) -> Self:
        moved: dict[str, Any] = {
            name: tensor.to(like) for name, tensor in self.named_tensors.items()
        }
        return replace(self, **moved)


def packed(dense: Tensor) -> Latents:
    """What is positive in `dense` `(tokens, n_latents)`, strongest first, in as many slots as the
    busiest token needs.
    """
    slots = int((dense > 0).sum(1).max()) if len(dense) else 0
    values, indices = dense.topk(max(1, slots), sorted=True)
    return Latents(indices, values.relu())


def joined(parts: Sequence[Latents]) -> Latents:
    """Along tokens; parts with fewer slots get unused ones."""
    if len(parts) == 1:
        return parts[0]
    slots = max(part.values.shape[-1] for part in parts)
    padded = [[pad(t, (0, slots - t.shape[-1])) for t in part] for part in parts]
    return Latents(*(torch.cat(tensors) for tensors in zip(*padded, strict=True)))


@dataclass(frozen=True)
class TrainedSae:
    """An SAE bound to the place in a model that it reads: what tasks get."""

    name: str
    hookpoint: Hookpoint
    sae: SAE
    identity: str = ""
    """sha256 of the weights; filled in when not given."""
    arm: str = "main"
    """`main`, or `untrained` for the control."""

    def __post_init__(self) -> None:
        if not self.identity:
            object.__setattr__(self, "identity", self.sae.identity)

    def untrained(self, seed: int = 0, k: int | None = None) -> TrainedSae:
        """The control arm of this SAE."""
        return TrainedSae(self.name, self.hookpoint, self.sae.untrained(seed, k), arm="untrained")
