"""An untrained control beside each SAE, as sparse as the SAE is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .sparsity import measured_l0

if TYPE_CHECKING:
    from ..harness.artefacts import ArtefactStore
    from ..sae.topk import TrainedSae
    from .subject import Subject


def with_controls(subject: Subject, store: ArtefactStore) -> Subject:
    """The subject with a control for each of its SAEs after them.

    A control has the k of its SAE. Of a JumpReLU or a Gated as many latents fire as like to: its
    L0 is measured, the control gets that, and so does the SAE where its checkpoint names no k.
    """
    saes = subject.saes
    free = [sae.sae.free_l0 for sae in saes]
    if not any(free):
        return replace(subject, saes=[*saes, *(sae.untrained(subject.seed) for sae in saes)])
    wanted = [
        max(1, round(l0)) if is_free else sae.sae.k
        for sae, is_free, l0 in zip(saes, free, measured_l0(subject, store), strict=True)
    ]
    controls = [sae.untrained(subject.seed, k) for sae, k in zip(saes, wanted, strict=True)]
    return replace(subject, saes=[*map(_with_k, saes, wanted), *controls])


def _with_k(sae: TrainedSae, measured: int) -> TrainedSae:
    """Still the same SAE: its identity is that of its checkpoint."""
    if sae.sae.k:
        return sae
    return replace(sae, sae=replace(sae.sae, k=measured))
