"""How many latents of each SAE are live, dead and dense: counts that stand beside every score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...harness.task import Line, Metric, MetricRow, Outcome, Sample
from .explaining import SECOND
from .labels import kappa

if TYPE_CHECKING:
    from .study import Study

CENSUS_METRICS = (
    Metric(
        "live_latents",
        "live latents",
        "latents that fire on enough images and image tokens of the search set",
        higher_is_better=None,
        unit="latents",
        range=(0, None),
    ),
    Metric(
        "dead_latents",
        "dead latents",
        "latents that fire on no image token of the search set",
        higher_is_better=None,
        unit="latents",
        range=(0, None),
    ),
    Metric(
        "dense_latents",
        "dense latents",
        "live latents that fire on more than a tenth of the image tokens; flagged, not dropped",
        higher_is_better=None,
        unit="latents",
        range=(0, None),
    ),
)
LABELLER_METRICS = (
    Metric(
        "labeller_kappa",
        "concept labellers, Cohen's kappa",
        "agreement beyond chance of the concept and the second labeller's, over explained latents",
        higher_is_better=None,
        range=(-1, 1),
    ),
)
_ARM = "census"


def census_samples(studies: Sequence[Study]) -> Iterator[Sample]:
    """One sample per SAE, its payload the outcome. An arm of its own, so that no limit drops it."""
    for study in studies:
        census = study.census
        counts = (len(census.live), census.dead, len(census.dense))
        scores = {m.name: float(n) for m, n in zip(CENSUS_METRICS, counts, strict=True)}
        sampled = len(study.explanations)
        yield _sample(
            study, "census", Outcome.ok(scores, n_latents=census.n_latents, sampled=sampled)
        )
        if (agreed := _agreement(study)) is not None:
            yield _sample(study, "labellers", agreed)


def _sample(study: Study, what: str, outcome: Outcome) -> Sample:
    sae = study.sae
    where = f"{sae.name}/{sae.hookpoint.name}/{sae.arm}"
    return Sample(
        id=f"{where}/{what}",
        cluster=where,
        arm=_ARM if sae.arm == "main" else f"{_ARM}_{sae.arm}",
        sae=sae.name,
        hookpoint=sae.hookpoint.name,
        payload=outcome,
    )


def _agreement(study: Study) -> Outcome | None:
    """Of the two labellers; None without a second one."""
    pairs = [
        (said.concept, said.detail[SECOND])
        for said in study.explanations.values()
        if said.concept and SECOND in said.detail
    ]
    if not pairs:
        return None
    first, second = zip(*pairs, strict=True)
    found = kappa(first, second)
    if found is None:
        return Outcome.unscorable("both labellers know one concept alone", n=len(pairs))
    return Outcome.ok({"labeller_kappa": found}, n=len(pairs))


def census_rows(lines: Sequence[Line]) -> Iterator[MetricRow]:
    """The counts, out of all latents of the SAE; and how far two labellers agree."""
    for line in lines:
        if line["status"] != "ok":
            continue
        if line["id"].endswith("/census"):
            yield from _rows(line, int(line["detail"]["n_latents"]))
        elif line["id"].endswith("/labellers"):
            yield from _rows(line, int(line["detail"]["n"]))


def _rows(line: Line, n: int) -> Iterator[MetricRow]:
    arm = "main" if line["arm"] == _ARM else line["arm"].removeprefix(f"{_ARM}_")
    for name, value in line["scores"].items():
        yield MetricRow(name, value, n, n, sae=line["sae"], hookpoint=line["hookpoint"], arm=arm)
