"""Every architecture by name, and the trainer that makes it."""

from __future__ import annotations

from typing import Any

from .batch_topk import BatchTopK
from .batch_trainer import BatchTopKTrainer
from .gated import Gated, GatedTrainer
from .jump_relu import JumpReLU, JumpReLUTrainer
from .matryoshka import MatryoshkaBatchTopK
from .sae import SAE
from .step import AuxK, MultiTopK, TopKTrainer
from .straight_through import Penalised
from .topk import TopK
from .trainer import Trainer

_ALL: tuple[type[SAE], ...] = (TopK, BatchTopK, MatryoshkaBatchTopK, JumpReLU, Gated)
ARCHITECTURES: dict[str, type[SAE]] = {kind.architecture: kind for kind in _ALL}


def trainer_for(
    sae: SAE,
    lr: float,
    dead_after: int,
    auxk: AuxK | None = None,
    multi: MultiTopK | None = None,
    penalty: float | None = None,
) -> Trainer[Any]:
    """Raises `ValueError` for a part of the loss that the architecture does not have."""
    if penalty is not None and not isinstance(sae, Penalised):
        raise ValueError(f"a penalty is of jump_relu and gated, not of {sae.architecture}")
    if isinstance(sae, TopK):
        return TopKTrainer(sae, lr, auxk, dead_after, multi)
    if isinstance(sae, BatchTopK):
        return BatchTopKTrainer(sae, lr, auxk, dead_after, multi)
    if auxk is not None or multi is not None:
        raise ValueError(f"AuxK and MultiTopK are of the TopK family, not of {sae.architecture}")
    if isinstance(sae, JumpReLU):
        return JumpReLUTrainer(sae, lr, dead_after, penalty)
    if isinstance(sae, Gated):
        return GatedTrainer(sae, lr, dead_after, penalty)
    raise ValueError(f"no trainer makes {type(sae).__name__}")
