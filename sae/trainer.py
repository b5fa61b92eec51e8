"""An SAE in training, whatever its architecture: Adam, unit decoder rows, who is dead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .distributed import Ranks
from .sae import SAE, Latents

_ROWS = 256
"""Decoder rows worked on at a time: no temporary is as large as the decoder."""

AnySAE = TypeVar("AnySAE", bound=SAE)


@dataclass(frozen=True)
class Forward:
    """What one encoder product gives."""

    latents: Latents
    error: Tensor
    """`(tokens, d_model)`: reconstruction minus x."""


@dataclass(frozen=True)
class Gradients:
    """Of the loss, for every learned tensor; the same shapes as the SAE's."""

    loss: Tensor
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    others: tuple[Tensor, ...] = ()
    """Of the tensors that the architecture adds."""

    def of_parameters(self) -> tuple[Tensor, ...]:
        return self.W_enc, self.b_enc, self.W_dec, self.b_dec, *self.others


@dataclass(frozen=True)
class Whole:
    """A batch that comes in pieces, or on several ranks: what it is all in all."""

    variance: Tensor
    """As the function of that name has it."""
    n_tokens: int


def variance(x: Tensor) -> Tensor:
    """Sum over tokens of the squared distance from the batch mean: what FVU divides by.

    Never less than rounding, so that a batch of equal tokens has a finite loss.
    """
    rounding = torch.finfo(x.dtype).eps * x.pow(2).sum() + torch.finfo(x.dtype).tiny
    return torch.maximum((x - x.mean(0)).pow(2).sum(), rounding)


class Trainer(ABC, Generic[AnySAE]):
    """Learns batch by batch. Its state is `sae.tensors`, `optimizer`, `silent_for` and `hidden`."""

    def __init__(self, sae: AnySAE, lr: float, dead_after: int) -> None:
        """`dead_after`: tokens without firing that make a latent dead."""
        self.sae = sae
        self.dead_after = dead_after
        self.silent_for = torch.zeros(sae.n_latents, dtype=torch.int64, device=sae.W_enc.device)
        self.parameters = sae.learned
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.parameters, lr=lr, fused=True)

    @property
    def dead(self) -> Tensor:
        """`(n_latents,)` bool."""
        return self.silent_for >= self.dead_after

    @property
    def hidden(self) -> Mapping[str, Tensor]:
        """What the next step depends on and the SAE does not show; here nothing."""
        return {}

    def survey(self, pieces: Sequence[Tensor], whole: Whole, ranks: Ranks) -> None:
        """Learn of a batch what the gradients of its pieces must know of each other; here nothing.

        Comes before them when there are several, on every rank, also on one without a token.
        """

    def share(self, x: Tensor, whole: Whole) -> Tensor:
        """What the gradients of a piece count in those of the whole batch."""
        return variance(x) / whole.variance

    @abstractmethod
    def gradients(self, x: Tensor) -> tuple[Forward, Gradients]:
        """The forward of `(tokens, d_model)` and the gradients of its loss, for `update`."""

    def step(self, x: Tensor, lr: float) -> Forward:
        """Learn from `(tokens, d_model)`; returns the forward before the update."""
        done, grads = self.gradients(x)
        self.update(grads.of_parameters(), lr)
        fired = torch.zeros_like(self.silent_for, dtype=torch.bool)
        fired[done.latents.indices[done.latents.values > 0].long()] = True
        self.note_fired(fired, len(x))
        return done

    @torch.no_grad()
    def update(self, grads: Sequence[Tensor], lr: float) -> None:
        """One step of Adam along gradients of `parameters`, which it may change."""
        rows = list(zip(*(torch.split(t, _ROWS) for t in (grads[2], self.sae.W_dec)), strict=True))
        for grad, row in rows:
            # Only turning a decoder row can change anything: its length is fixed.
            grad.sub_((grad * row).sum(1, keepdim=True) * row)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        for _, row in rows:
            row.div_(row.norm(dim=1, keepdim=True))

    def note_fired(self, fired: Tensor, n_tokens: int) -> None:
        """`fired` `(n_latents,)` bool: on any of `n_tokens` tokens."""
        self.silent_for += n_tokens
        self.silent_for[fired] = 0
