"""The neuron basis as a dictionary: the comparator of every SAE at a hookpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...sae.topk import TopK, TrainedSae

if TYPE_CHECKING:
    from collections.abc import Sequence

NEURON = "neuron"
"""The arm of the neuron basis."""
NEURONS_PER_HOOKPOINT = 24
"""So many are explained: enough for a mean with an interval beside that of the SAE."""


def neuron_saes(saes: Sequence[TrainedSae]) -> list[TrainedSae]:
    """Per SAE the k neurons furthest from the data's mean, either side of it a latent of its own.

    Latent i is neuron i above its mean, latent d_model + i the same neuron below it.
    """
    return [
        TrainedSae(sae.name, sae.hookpoint, _basis(sae), arm=NEURON)
        for sae in saes
        if sae.arm == "main"
    ]


def _basis(sae: TrainedSae) -> TopK:
    import torch

    bias = sae.sae.b_dec
    eye = torch.eye(sae.sae.d_model).to(bias)
    rows = torch.cat([eye, -eye])
    return TopK(rows, rows.new_zeros(len(rows)), rows, bias, min(sae.sae.k, len(eye)))
