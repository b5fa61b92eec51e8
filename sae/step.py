"""One training step of an SAE of the TopK family, without autograd. Its oracle is `twin.py`.

Loss: FVU of the batch (of each nested reconstruction, weighted) + alpha * AuxK. Only chosen latents
meet their decoder rows, and both weight gradients are bags over sorted (token, latent) pairs; the
encoder product is the one dense thing, and of that only some tokens at a time are in memory.

AuxK lets the dead latents with the largest pre-activations explain the (detached) error. A dead
latent is one whose ReLU is shut, and behind a shut ReLU no gradient would reach its encoder row; so
a shut one gets the gradient all the same where going down it opens the ReLU, and only there. (AuxK
without the ReLU doesn't do: dead latents then explain the error together with negative values, and
stay dead.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from .family import Share, TopKFamily
from .sae import Latents
from .sparse import BagsByRow, weighted_rows
from .topk import TopK
from .trainer import Forward, Gradients, Trainer, variance

__all__ = ["AuxK", "FamilyTrainer", "Forward", "Gradients", "MultiTopK", "TopKTrainer", "variance"]


FamilySAE = TypeVar("FamilySAE", bound=TopKFamily)


@dataclass(frozen=True)
class AuxK:
    """How dead latents are pulled back."""

    alpha: float = 1 / 32
    k: int = 32


@dataclass(frozen=True)
class MultiTopK:
    """A second reconstruction, from `times` k latents, whose FVU counts `weight` in the loss: it
    keeps the SAE sound when more latents are kept than it was trained with (Gao et al. 2024).
    """

    times: int = 4
    weight: float = 1 / 8


@dataclass(frozen=True)
class Nested:
    """A share of what fired, and the error of the reconstruction from it and those before it."""

    latents: Latents
    error: Tensor
    weight: float


class Aux(NamedTuple):
    """AuxK's choice of dead latents."""

    latents: Latents
    """Mostly with value 0."""
    used: Tensor
    """`(tokens, slots)` bool."""


@dataclass(frozen=True)
class NestedForward(Forward):
    """The reconstruction, with what its gradients need."""

    nested: Sequence[Nested]
    aux: Aux | None
    """None without dead latents."""


@torch.no_grad()
def forward(
    sae: TopKFamily,
    x: Tensor,
    dead: Tensor | None = None,
    auxk: AuxK | None = None,
    multi: MultiTopK | None = None,
) -> NestedForward:
    """x `(tokens, d_model)`; `dead` `(n_latents,)` bool."""
    rows = dead.nonzero()[:, 0] if dead is not None and auxk is not None and auxk.alpha else None
    chosen_dead: list[Latents] = []

    def parts() -> Iterator[Tensor]:
        for pre in sae.dense_parts(x):
            if auxk is not None and rows is not None:
                chosen_dead.append(_strongest_of(pre, rows, auxk.k))
            yield pre

    if multi is None:
        fired = sae.select(parts(), len(x), sae.k)
        nested = _nested(sae, x, sae.shares(fired))
        error = nested[-1].error
    else:
        most = min(sae.n_latents, multi.times * sae.k)
        shares = _by_rank(sae.select(parts(), len(x), most), sae.k, multi)
        nested = _nested(sae, x, shares)
        fired, error = nested[0].latents, nested[0].error
    aux = _aux(sae, chosen_dead, auxk.k) if auxk is not None and chosen_dead else None
    return NestedForward(fired, error, nested, aux)


def _aux(sae: TopKFamily, parts: Sequence[Latents], k: int) -> Aux | None:
    indices, values = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    used = sae.among_strongest(values, k)
    if used is None:
        return None
    if not values.shape[1]:  # all dead latents are on other ranks: one slot, unused
        indices, values, used = (pad(tensor, (0, 1)) for tensor in (indices, values, used))
    return Aux(Latents(indices, (values * used).relu_()), used)


def _strongest_of(pre: Tensor, rows: Tensor, k: int) -> Latents:
    """With values before their ReLU."""
    values, places = pre[:, rows].topk(min(k, len(rows)), sorted=False)
    return Latents(rows[places], values)


def _by_rank(fired: Latents, k: int, multi: MultiTopK) -> list[Share]:
    if fired.values.shape[1] == k:
        return [Share(fired, 1.0 + multi.weight)]
    first, more = (
        Latents(fired.indices[:, part], fired.values[:, part])
        for part in (slice(k), slice(k, None))
    )
    return [Share(first, 1.0), Share(more, multi.weight)]


def _nested(sae: TopKFamily, x: Tensor, shares: Sequence[Share]) -> list[Nested]:
    found: list[Nested] = []
    decoded: Tensor | None = None
    for latents, weight in shares:
        of_share = sae.together(weighted_rows(sae.W_dec, *latents))
        decoded = of_share if decoded is None else decoded + of_share
        found.append(Nested(latents, decoded + sae.b_dec - x, weight))
    return found


@torch.no_grad()
def gradients(
    sae: TopKFamily,
    x: Tensor,
    done: NestedForward,
    auxk: AuxK | None = None,
    room: Gradients | None = None,
) -> Gradients:
    """The gradients of the loss at a finished `forward`, by hand. `room` are gradients that nobody
    needs any more: in memory that is at hand, writing new ones is cheaper.
    """
    centred = x - sae.b_dec
    total = variance(x)
    loss = (
        torch.stack([part.weight * part.error.pow(2).sum() for part in done.nested]).sum() / total
    )
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    upstream = torch.zeros(())
    for part in reversed(done.nested):
        # A share is in its own reconstruction and in all that come after.
        own = part.error * (2 * part.weight / total)
        upstream = own if not parts else own + upstream
        fires = part.latents.values > 0
        parts.append(_through(sae, part.latents, fires, upstream, centred, None if parts else room))
    g_b_dec = upstream.sum(0)
    if done.aux is not None and auxk is not None:
        miss = sae.together(weighted_rows(sae.W_dec, *done.aux.latents)) + done.error
        weight = auxk.alpha / total
        loss = loss + weight * miss.pow(2).sum()
        parts.append(_through(sae, *done.aux, miss * (2 * weight), centred, revive=True))
    g_enc, g_bias, g_dec = (_total(of_parts) for of_parts in zip(*parts, strict=True))
    # b_dec is added to the output and subtracted from the encoder's input.
    return Gradients(loss, g_enc, g_bias, g_dec, g_b_dec - sae.together(g_bias @ sae.W_enc))


def _total(tensors: Sequence[Tensor]) -> Tensor:
    first, *others = tensors
    for other in others:
        first.add_(other)
    return first


def _through(
    sae: TopKFamily,
    latents: Latents,
    used: Tensor,
    upstream: Tensor,
    centred: Tensor,
    room: Gradients | None = None,
    revive: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of W_enc, b_enc and W_dec, given `upstream`, that of the decoded latents.

    Only `used` slots count. With `revive` one that ReLU shut passes on what opens it.
    """
    bags = BagsByRow(latents.indices, sae.n_latents, None if used.all() else used)
    values = bags.sorted(latents.values)
    g_pre = bags.dots(sae.W_dec, upstream)
    if revive:
        g_pre = g_pre * ((values > 0) | (g_pre < 0))
    one = centred.new_ones(len(centred), 1)
    g_enc = bags.sum(g_pre, centred, None if room is None else room.W_enc)
    g_dec = bags.sum(values, upstream, None if room is None else room.W_dec)
    return g_enc, bags.sum(g_pre, one)[:, 0], g_dec


class FamilyTrainer(Trainer[FamilySAE]):
    """Trains an SAE of the TopK family."""

    def __init__(
        self,
        sae: FamilySAE,
        lr: float,
        auxk: AuxK | None,
        dead_after: int,
        multi: MultiTopK | None = None,
    ) -> None:
        """`dead_after`: tokens without firing that make a latent dead. `multi` is for TopK alone:
        its latents have ranks within their token.
        """
        if multi is not None and sae.architecture != "topk":
            raise ValueError(f"MultiTopK is of topk SAEs; this one is {sae.architecture}")
        super().__init__(sae, lr, dead_after)
        self.auxk = auxk
        self.multi = multi
        self._last: Gradients | None = None

    def gradients(self, x: Tensor) -> tuple[NestedForward, Gradients]:
        """As in `Trainer`. The gradients are overwritten by the next call."""
        done = forward(self.sae, x, self.dead, self.auxk, self.multi)
        self.sae.observe(done.latents)
        self._last = gradients(self.sae, x, done, self.auxk, self._last)
        return done, self._last


class TopKTrainer(FamilyTrainer[TopK]):
    """Trains a TopK."""
