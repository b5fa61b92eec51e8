"""One training step of a TopK SAE without autograd, and its autograd twin.

Loss: FVU of the batch + alpha * AuxK. Only chosen latents meet their decoder rows, and both weight
gradients are bags over sorted (token, latent) pairs; the encoder product is the one dense thing.

AuxK lets the dead latents with the largest pre-activations explain the (detached) error. A dead
latent is one whose ReLU is shut, and behind a shut ReLU no gradient would reach its encoder row; so
a shut one gets the gradient all the same where going down it opens the ReLU, and only there. (AuxK
without the ReLU doesn't do: dead latents then explain the error together with negative values, and
stay dead.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .sparse import BagsByRow, row_dots, weighted_rows
from .topk import Latents, TopK


@dataclass(frozen=True)
class AuxK:
    """How dead latents are pulled back."""

    alpha: float = 1 / 32
    k: int = 32


@dataclass(frozen=True)
class Gradients:
    """Of the loss, for every parameter; the same shapes as the SAE's."""

    loss: Tensor
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    def of_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.W_enc, self.b_enc, self.W_dec, self.b_dec


@dataclass(frozen=True)
class Forward:
    """What one encoder product gives: latents, the reconstruction's error, and AuxK's choice."""

    latents: Latents
    error: Tensor
    """`(tokens, d_model)`: reconstruction minus x."""
    aux: Latents | None
    """Chosen dead latents, mostly with value 0; None without any."""


def variance(x: Tensor) -> Tensor:
    """Sum over tokens of the squared distance from the batch mean: what FVU divides by.

    Never less than rounding, so that a batch of equal tokens has a finite loss.
    """
    rounding = torch.finfo(x.dtype).eps * x.pow(2).sum() + torch.finfo(x.dtype).tiny
    return torch.maximum((x - x.mean(0)).pow(2).sum(), rounding)


@torch.no_grad()
def forward(sae: TopK, x: Tensor, dead: Tensor | None = None, auxk: AuxK | None = None) -> Forward:
    """x `(tokens, d_model)`; `dead` `(n_latents,)` bool."""
    pre = sae.pre_activations(x)
    values, indices = pre.topk(sae.k, sorted=False)
    latents = Latents(indices, values.relu())
    return Forward(latents, sae.decode(latents) - x, _choose_dead(pre, dead, auxk))


def _choose_dead(pre: Tensor, dead: Tensor | None, auxk: AuxK | None) -> Latents | None:
    if dead is None or auxk is None or auxk.alpha == 0:
        return None
    rows = dead.nonzero()[:, 0]
    if len(rows) == 0:
        return None
    values, places = pre[:, rows].topk(min(auxk.k, len(rows)), sorted=False)
    return Latents(rows[places], values.relu_())


@torch.no_grad()
def gradients(sae: TopK, x: Tensor, done: Forward, auxk: AuxK | None = None) -> Gradients:
    """The gradients of the loss at a finished `forward`, by hand."""
    centred = x - sae.b_dec
    total = variance(x)
    loss = done.error.pow(2).sum() / total
    upstream = done.error * (2 / total)
    parts = [_through(sae, done.latents, upstream, centred)]
    if done.aux is not None and auxk is not None:
        miss = weighted_rows(sae.W_dec, *done.aux) + done.error
        weight = auxk.alpha / total
        loss = loss + weight * miss.pow(2).sum()
        parts.append(_through(sae, done.aux, miss * (2 * weight), centred, revive=True))
    g_enc, g_bias, g_dec = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
    # b_dec is added to the output and subtracted from the encoder's input.
    return Gradients(loss, g_enc, g_bias, g_dec, upstream.sum(0) - g_bias @ sae.W_enc)


def _through(
    sae: TopK, latents: Latents, upstream: Tensor, centred: Tensor, revive: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of W_enc, b_enc and W_dec, given `upstream`, that of the decoded latents.

    A slot that ReLU shut passes nothing on to the encoder, or with `revive` only what opens it.
    """
    bags = BagsByRow(latents.indices, sae.n_latents)
    g_pre = row_dots(sae.W_dec, latents.indices, upstream)
    passes = latents.values > 0
    if revive:
        passes |= g_pre < 0
    g_pre = g_pre * passes
    one = centred.new_ones(len(centred), 1)
    return bags.sum(g_pre, centred), bags.sum(g_pre, one)[:, 0], bags.sum(latents.values, upstream)


def autograd_gradients(sae: TopK, x: Tensor, done: Forward, auxk: AuxK | None = None) -> Gradients:
    """The same by autograd, given the same support: the oracle of `gradients`."""
    with torch.enable_grad():
        tensors = [tensor.detach().clone().requires_grad_() for tensor in sae.tensors]
        W_enc, b_enc, W_dec, b_dec = tensors
        twin = TopK(W_enc, b_enc, W_dec, b_dec, sae.k)
        pre = twin.pre_activations(x)
        values = pre.gather(1, done.latents.indices).relu()
        decoded = torch.einsum("tk,tkd->td", values, twin.W_dec[done.latents.indices]) + twin.b_dec
        total = variance(x)
        loss = (decoded - x).pow(2).sum() / total
        if done.aux is not None and auxk is not None:
            loss = loss + _twin_of_auxk(
                twin, pre, done.aux.indices, (x - decoded).detach(), auxk.alpha / total
            )
        return Gradients(loss.detach(), *torch.autograd.grad(loss, tensors))


def _twin_of_auxk(twin: TopK, pre: Tensor, chosen: Tensor, error: Tensor, weight: Tensor) -> Tensor:
    raw, rows = pre.gather(1, chosen), twin.W_dec[chosen]
    explained = torch.einsum("tk,tkd->td", raw.relu(), rows)
    slope = torch.einsum("td,tkd->tk", explained - error, rows)
    opens = ((raw <= 0) & (slope < 0)).detach()
    # Adds nothing to the value and 1 to the derivative where a shut ReLU is to open.
    values = raw.relu() + opens * (raw - raw.detach())
    return weight * (torch.einsum("tk,tkd->td", values, rows) - error).pow(2).sum()


class TopKTrainer:
    """An SAE in training: Adam, unit-norm decoder rows, and when each latent last fired."""

    def __init__(self, sae: TopK, lr: float, auxk: AuxK | None, dead_after: int) -> None:
        """`dead_after`: tokens without firing that make a latent dead."""
        self.sae = sae
        self.auxk = auxk
        self.dead_after = dead_after
        self.silent_for = torch.zeros(sae.n_latents, dtype=torch.int64, device=sae.W_enc.device)
        self.parameters = sae.tensors
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.parameters, lr=lr, fused=True)

    @property
    def dead(self) -> Tensor:
        """`(n_latents,)` bool."""
        return self.silent_for >= self.dead_after

    def step(self, x: Tensor, lr: float) -> Forward:
        """Learn from `(tokens, d_model)`; returns the forward before the update."""
        done, grads = self.gradients(x)
        self.update(grads.of_parameters(), lr)
        fired = torch.zeros_like(self.silent_for, dtype=torch.bool)
        fired[done.latents.indices[done.latents.values > 0].long()] = True
        self.note_fired(fired, len(x))
        return done

    def gradients(self, x: Tensor) -> tuple[Forward, Gradients]:
        """The forward of `(tokens, d_model)` and the gradients of its loss; changes nothing."""
        done = forward(self.sae, x, self.dead, self.auxk)
        return done, gradients(self.sae, x, done, self.auxk)

    @torch.no_grad()
    def update(self, grads: Sequence[Tensor], lr: float) -> None:
        """One step of Adam along gradients of `parameters`."""
        # Only turning a decoder row can change anything: its length is fixed.
        g_dec = grads[2]
        along = (g_dec * self.sae.W_dec).sum(1, keepdim=True)
        g_dec.sub_(along * self.sae.W_dec)
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.sae.W_dec.div_(self.sae.W_dec.norm(dim=1, keepdim=True))

    def note_fired(self, fired: Tensor, n_tokens: int) -> None:
        """`fired` `(n_latents,)` bool: on any of `n_tokens` tokens."""
        self.silent_for += n_tokens
        self.silent_for[fired] = 0
