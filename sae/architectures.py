"""Every architecture by name, and the trainer that makes it."""

from __future__ import annotations

from typing import Any

from .batch_topk import BatchTopK
from .family import TopKFamily
from .gated import Gated, GatedTrainer
from .jump_relu import JumpReLU, JumpReLUTrainer
from .matryoshka import MatryoshkaBatchTopK
from .sae import SAE
from .step import AuxK, FamilyTrainer, MultiTopK, TopKTrainer
from .topk import TopK
from .trainer import Trainer

_ALL: tuple[type[SAE], ...] = (TopK, BatchTopK, MatryoshkaBatchTopK, JumpReLU, Gated)
ARCHITECTURES: dict[str, type[SAE]] = {kind.architecture: kind for kind in _ALL}


def trainer_for(
    sae: SAE, lr: float, dead_after: int, auxk: AuxK | None = None, multi: MultiTopK | None = None
) -> Trainer[Any]:
    """Raises `ValueError` for an auxiliary loss that the architecture does not have."""
    if isinstance(sae, TopK):
        return TopKTrainer(sae, lr, auxk, dead_after, multi)
    if isinstance(sae, TopKFamily):
        return FamilyTrainer(sae, lr, auxk, dead_after, multi)
    if auxk is not None or multi is not None:
        raise ValueError(f"AuxK and MultiTopK are of the TopK family, not of {sae.architecture}")
    if isinstance(sae, JumpReLU):
        return JumpReLUTrainer(sae, lr, dead_after)
    if isinstance(sae, Gated):
        return GatedTrainer(sae, lr, dead_after)
    raise ValueError(f"no trainer makes {type(sae).__name__}")
