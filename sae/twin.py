"""The loss of `step.py` by autograd, given the same support: the oracle of its gradients, and of
what training with them comes to.
"""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from .family import TopKFamily
from .sae import Latents
from .step import AuxK, NestedForward, TopKTrainer, forward
from .trainer import Gradients, variance


def autograd_gradients(
    sae: TopKFamily, x: Tensor, done: NestedForward, auxk: AuxK | None = None
) -> Gradients:
    """Dense in `(tokens, n_latents)`: for tests."""
    with torch.enable_grad():
        names = [field.name for field in fields(sae)][:4]
        learned = [getattr(sae, name).detach().clone().requires_grad_() for name in names]
        twin = replace(sae, **dict(zip(names, learned, strict=True)))
        pre = twin.pre_activations(x)
        total = variance(x)
        loss, decoded, error = x.new_zeros(()), twin.b_dec.expand_as(x), x
        for part in done.nested:
            decoded = decoded + _decoded(twin, pre, part.latents)
            loss = loss + part.weight * (decoded - x).pow(2).sum() / total
            # The error that AuxK explains is that of the latents that count as fired.
            if part.error is done.error:
                error = (x - decoded).detach()
        if done.aux is not None and auxk is not None:
            loss = loss + _auxk(twin, pre, done.aux.latents.indices, error, auxk.alpha / total)
        W_enc, b_enc, W_dec, b_dec = torch.autograd.grad(loss, learned)
        return Gradients(loss.detach(), W_enc, b_enc, W_dec, b_dec)


class TwinTrainer(TopKTrainer):
    """Trains a TopK by autograd."""

    def gradients(self, x: Tensor) -> tuple[NestedForward, Gradients]:
        done = forward(self.sae, x, self.dead, self.auxk)
        return done, autograd_gradients(self.sae, x, done, self.auxk)


def _decoded(twin: TopKFamily, pre: Tensor, latents: Latents) -> Tensor:
    values = pre.gather(1, latents.indices).relu() * (latents.values > 0)
    return torch.einsum("tk,tkd->td", values, twin.W_dec[latents.indices])


def _auxk(twin: TopKFamily, pre: Tensor, chosen: Tensor, error: Tensor, weight: Tensor) -> Tensor:
    raw, rows = pre.gather(1, chosen), twin.W_dec[chosen]
    explained = torch.einsum("tk,tkd->td", raw.relu(), rows)
    slope = torch.einsum("td,tkd->tk", explained - error, rows)
    opens = ((raw <= 0) & (slope < 0)).detach()
    # Adds nothing to the value and 1 to the derivative where a shut ReLU is to open.
    values = raw.relu() + opens * (raw - raw.detach())
    return weight * (torch.einsum("tk,tkd->td", values, rows) - error).pow(2).sum()
