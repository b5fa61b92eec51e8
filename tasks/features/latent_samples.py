"""A latent as a sample: its id, its cluster, and the label that it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...harness.task import Sample
from .study import latent_name

if TYPE_CHECKING:
    from ...sae.topk import TrainedSae
    from .explain import Explanation


def latent_sample(
    sae: TrainedSae,
    latent: int,
    arm: str,
    payload: Any,
    *,
    suffix: str = "",
    concept: str | None = None,
) -> Sample:
    """One sample of a latent, which is its cluster; `suffix` tells its samples apart."""
    name = latent_name(sae, latent)
    return Sample(
        id=f"{name}{suffix}",
        cluster=name,
        arm=arm,
        sae=sae.name,
        hookpoint=sae.hookpoint.name,
        latent=latent,
        concept=concept,
        payload=payload,
    )


def label_for(said: Explanation, wrong: Mapping[str, str] | None) -> str | None:
    """Its own label, or the one that `wrong` has in that label's place."""
    return said.label if wrong is None else wrong.get(said.label or "")
