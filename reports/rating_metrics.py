"""What the numbers of a ratings run mean."""

from __future__ import annotations

from ..harness.task import Metric

_SHARE, _SIGNED = (0, 1), (-1, 1)
METRICS = (
    Metric(
        "consistent",
        "rated consistent",
        "share of the items that people find fitting, the mean over raters; main: the latents' "
        "own explanations, foil: wrong ones",
        True,
        range=_SHARE,
        headline=True,
    ),
    Metric(
        "estimate",
        "with the judge's help",
        "the same share over all judged items: the judge's mean, plus the mean of people less "
        "judge on the items that people have rated",
        True,
        range=_SHARE,
        headline=True,
    ),
    Metric(
        "estimate_j",
        "Youden's J with the judge's help",
        "the estimate of main less that of foil",
        True,
        range=_SIGNED,
        headline=True,
    ),
    Metric(
        "human_alpha",
        "α, people",
        "Krippendorff's α among people",
        True,
        range=_SIGNED,
        headline=True,
    ),
    Metric("human_ac1", "AC1, people", "Gwet's AC1 among people", True, range=_SIGNED),
    Metric(
        "human_agreement",
        "agreement, people",
        "share of equal answers among pairs of people",
        True,
        range=_SHARE,
    ),
    Metric("human_kappa", "κ, people", "Cohen's κ, mean over pairs of people", True, range=_SIGNED),
    Metric(
        "judge_alpha",
        "α, judge and people",
        "Krippendorff's α of judge and one person, mean over people",
        True,
        range=_SIGNED,
        headline=True,
    ),
    Metric(
        "judge_ac1",
        "AC1, judge and majority",
        "Gwet's AC1 of the judge and what most people say",
        True,
        range=_SIGNED,
    ),
    Metric(
        "agreement",
        "agreement, judge and people",
        "share of equal answers of judge and one person, mean over people",
        True,
        range=_SHARE,
        headline=True,
    ),
    Metric(
        "kappa",
        "κ, judge and people",
        "Cohen's κ of judge and one person, mean over people",
        True,
        range=_SIGNED,
        headline=True,
    ),
    Metric(
        "judge_balanced",
        "balanced accuracy of the judge",
        "mean of its share right where most people say 1, and where they say 0",
        True,
        range=_SHARE,
    ),
    Metric(
        "judge_accepts",
        "judge accepts what people accept",
        "of items that most people find fitting, the share that the judge accepts",
        True,
        range=_SHARE,
    ),
    Metric(
        "judge_wrongly_accepts",
        "judge accepts what people don't",
        "of items that most people find not fitting, the share that the judge accepts",
        False,
        range=_SHARE,
    ),
    Metric(
        "ceiling", "share of the human ceiling", "α of judge and people over α among people", True
    ),
    Metric(
        "self_agreement",
        "raters with themselves",
        "share of equal answers to items shown twice",
        True,
        range=_SHARE,
    ),
    Metric(
        "attention",
        "attention checks",
        "share of the plain items that are answered right",
        True,
        range=_SHARE,
    ),
)
