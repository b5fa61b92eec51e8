"""A batch of questions at one SAE: the clean pass, and answers with some latents left in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ...sae.lmm import LMM, Batch
    from ...sae.sae import Latents, TrainedSae


@dataclass(frozen=True)
class Clean:
    """What is known before anything is taken away."""

    lmm: LMM
    batch: Batch
    trained: TrainedSae
    stream: Tensor
    """`(batch, tokens, d_model)`."""
    latents: Latents
    """`(batch, tokens, k)`, 0 where no SAE edits. They stay these: nothing else fires instead."""

    @classmethod
    def of(cls, lmm: LMM, batch: Batch, trained: TrainedSae) -> Clean:
        from ...sae.encoding import encode_at
        from ...sae.residual import capture
        from ...sae.tokens import token_mask

        stream = capture(lmm, batch, [trained.hookpoint])[trained.hookpoint]
        latents = encode_at(trained.sae, stream, token_mask(batch.kinds, "all"))
        return cls(lmm, batch, trained, stream, latents)

    def summed(self, values: Tensor) -> Tensor:
        """Numbers of each slot `(batch, tokens, k)`, summed by latent: `(batch, n_latents)`."""
        dense = values.new_zeros(len(values), self.trained.sae.n_latents)
        return dense.scatter_add_(1, self.latents.indices.flatten(1).long(), values.flatten(1))

    def active(self) -> Tensor:
        """`(batch, n_latents)` bool: which latents fire anywhere in each prompt."""
        return self.summed((self.latents.values != 0).float()) > 0

    def margins(self, kept: Tensor, *, error: bool = True) -> Tensor:
        """`(batch,)`: logit(yes) - logit(no) with only the latents `kept` `(batch, n_latents)`.

        The others are ablated at every token. Without `error` the SAE's error goes too.
        """
        import torch

        from ...sae.residual import yes_no
        from ...sae.sparse import weighted_rows
        from ...sae.tokens import token_mask

        sae, (indices, values) = self.trained.sae, self.latents
        flags = kept.gather(1, indices.flatten(1).long()).reshape(indices.shape)
        wanted = torch.where(flags, 0.0, -values) if error else torch.where(flags, values, 0.0)
        moved = weighted_rows(sae.W_dec, indices, wanted).to(self.stream.dtype)
        new = self.stream + moved
        if not error:
            inside = token_mask(self.batch.kinds, "all").to(moved.device)[..., None]
            new = torch.where(inside, moved + sae.b_dec.to(moved.dtype), self.stream)
        with torch.no_grad():
            answer = yes_no(self.lmm, self.batch, {self.trained.hookpoint: lambda x, b: new})
        return answer.float().cpu()

    def without(self, latents: Tensor) -> Tensor:
        """`(batch,)`: the margin without one latent a row, `(batch,)` indices."""
        kept = self.active()
        kept.scatter_(1, latents.to(kept.device)[:, None], False)
        return self.margins(kept)


def ranked(importance: Tensor, active: Tensor) -> Tensor:
    """`(batch, n_latents)`: the rank of each latent, most important first, silent ones last."""
    import torch

    scored = torch.where(active, importance.double(), -torch.inf)
    return scored.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def kept_shares(ranks: Tensor, active: Tensor, share: float) -> Tensor:
    """`(batch, n_latents)` bool: the first `share` of each row's active latents."""
    count = (active.sum(1, keepdim=True) * share).round()
    return (ranks < count) & active


def random_importance(names: Sequence[str], n_latents: int, like: Tensor) -> Tensor:
    """`(rows, n_latents)`, drawn by the name of each row: the same in whatever batch."""
    import hashlib

    import torch

    rows = []
    for name in names:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        generator = torch.Generator().manual_seed(seed)
        rows.append(torch.rand(n_latents, generator=generator))
    return torch.stack(rows).to(like.device)
