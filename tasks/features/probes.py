"""What a judge is asked besides: two explanations side by side in both orders, an item again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...harness.task import Sample

if TYPE_CHECKING:
    from .foils import Item

PROBED = 40
"""Latents of an SAE that are probed."""
AGAIN = (1, 2)
"""Each probed item is judged three times in all."""
Order = Literal["true_first", "true_second"]
ORDERS: tuple[Order, ...] = ("true_first", "true_second")
REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Choice:
    """The latent's explanation against a wrong one for the same pictures."""

    item: Item
    foil: str
    order: Order


@dataclass(frozen=True, slots=True)
class Again:
    """An item that was judged already, and for the so-manieth time now."""

    item: Item
    time: int


def probes(
    pairs: Sequence[tuple[Item, Item]], wrong: Mapping[str, str], limit: int, seed: int
) -> Iterator[tuple[str, str, Choice | Again]]:
    """`(end of the sample's id, arm, probe)` of at most `limit` random latents of one SAE.

    Args:
        pairs: true item and foil of each latent.
        wrong: label -> nearest wrong label.
    """
    askable = [pair for pair in pairs if pair[0].explanation]
    rng = np.random.default_rng([seed, len(askable), 2])
    for place, at in enumerate(rng.permutation(len(askable))[:limit]):
        true, foil = askable[at]
        label = true.explanation or ""
        if label in wrong:
            for order in ORDERS:
                yield f"choice/{order}", order, Choice(true, wrong[label], order)
        # True items and foils in turn: a judge may waver on one side only.
        item = foil if place % 2 and foil.explanation else true
        for time in AGAIN:
            yield f"{item.kind}/again{time}", REPEATED, Again(item, time)


def first_of(sample_id: str) -> str:
    """The id of the sample that an `Again` repeats."""
    return sample_id.rpartition("/again")[0]


def time_of(sample_id: str) -> int:
    """The so-manieth time that an `Again` is."""
    return int(sample_id.rpartition("/again")[2])


def probe_sample(end: str, arm: str, probe: Choice | Again) -> Sample:
    item = probe.item
    name = item.study.name(item.latent)
    return Sample(
        id=f"{name}/{end}",
        cluster=name,
        arm=arm,
        sae=item.study.sae.name,
        hookpoint=item.study.sae.hookpoint.name,
        latent=item.latent,
        concept=item.study.explanations[item.latent].concept,
        payload=probe,
    )
