"""Training a BatchTopK whose batch comes in pieces or on several ranks: what fires in one piece
depends on all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .batch_topk import BatchTopK
from .distributed import Ranks
from .family import Share
from .sae import Latents
from .step import FamilyTrainer, Gradients, NestedForward
from .trainer import Whole


@dataclass(frozen=True, eq=False)
class _Piece(BatchTopK):
    """The BatchTopK `whole` on a piece of a batch in which latents fire from `cut` on.

    Of latents that tie at the last place all fire.
    """

    whole: BatchTopK
    cut: Tensor

    def select(self, parts: Iterable[Tensor], n_tokens: int, k: int) -> Latents:
        return self.from_cut(parts, n_tokens, self.cut)

    def shares(self, fired: Latents) -> Sequence[Share]:
        return self.whole.shares(fired)

    def among_strongest(self, values: Tensor, k: int) -> Tensor | None:
        return self.whole.among_strongest(values, k)

    def together(self, part: Tensor) -> Tensor:
        return self.whole.together(part)

    def observe(self, fired: Latents) -> None:
        """The survey has."""


class BatchTopKTrainer(FamilyTrainer[BatchTopK]):
    """Trains a BatchTopK or a Matryoshka-BatchTopK.

    A batch in pieces is encoded twice: what fires is told by the k-th largest latent a token of
    all pieces together, which is also what the threshold learns.
    """

    _piece: _Piece | None = None

    @torch.no_grad()
    def survey(self, pieces: Sequence[Tensor], whole: Whole, ranks: Ranks) -> None:
        sae = self.sae
        wanted = sae.k * whole.n_tokens
        parts = (pre for piece in pieces for pre in sae.dense_parts(piece))
        cut = sae.cut_of(sae.largest(parts, wanted)[0], wanted, ranks)
        if cut is None:  # nothing fires
            cut = sae.threshold.new_tensor(torch.inf)
        else:
            sae.learn_threshold(cut)
        weights = (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
        self._piece = _Piece(*weights, sae.k, sae.threshold, sae, cut)

    def gradients(self, x: Tensor) -> tuple[NestedForward, Gradients]:
        """As in `Trainer`: of x as a piece of the batch surveyed, or without a survey as all."""
        if self._piece is None:
            return super().gradients(x)
        whole, self.sae = self.sae, self._piece
        try:
            return super().gradients(x)
        finally:
            self.sae = whole

    def update(self, grads: Sequence[Tensor], lr: float) -> None:
        super().update(grads, lr)
        self._piece = None
