"""The numbers that the `halluc` task gives, with what they mean."""

from __future__ import annotations

from typing import Any

from ...harness.task import Metric

_BOTH = (-1.0, 1.0)


def _share(name: str, title: str, text: str, up: bool | None, **more: Any) -> Metric:
    return Metric(name, title, text, up, range=more.pop("range", (0.0, 1.0)), **more)


METRICS = (
    _share("correction", "Corrected", "Wrong answers that become right.", True, headline=True),
    _share("regression", "Broken", "Right answers that become wrong.", False, headline=True),
    _share(
        "net",
        "Net",
        "Change of accuracy: (1 - acc) x corrected - acc x broken.",
        True,
        range=_BOTH,
        headline=True,
    ),
    _share(
        "net_detectable",
        "Detectable net",
        "The smallest net that this n shows with power .8 at .05, by the spread over families.",
        None,
    ),
    _share("mcnemar_p", "McNemar p", "Exact p of fixed against broken; families ignored.", None),
    _share(
        "net_over_random",
        "Net over random",
        "Net minus the mean net of other live latents moved equally far.",
        True,
        range=_BOTH,
        headline=True,
    ),
    _share(
        "net_over_random_p",
        "p over random",
        "(1 + random draws at least as good) / (1 + random draws).",
        None,
    ),
    _share(
        "net_over_offset",
        "Net over offset",
        "Net minus that of a constant logit offset with the same yes rate.",
        True,
        range=_BOTH,
        headline=True,
    ),
    _share(
        "effect",
        "Effect of the latents",
        "Steered minus reconstruction alone: replace mode without the SAE's own damage.",
        True,
        range=_BOTH,
    ),
    _share("accuracy", "Accuracy", "Right answers among yes/no answers.", True),
    _share(
        "pda",
        "Paired discrimination",
        "Pairs of one question with true yes and true no whose margins are in order. Chance .5; "
        "a constant offset can't change it.",
        True,
    ),
    _share("auroc", "AUROC", "Of the yes/no margin on prior items, both directions pooled.", True),
    _share("yes_rate", "Yes rate", "Share of yes among yes/no answers.", None),
    _share("aacc", "aAcc", "HallusionBench accuracy by question.", True),
    _share("facc", "fAcc", "HallusionBench accuracy by figure.", True),
    _share("qacc", "qAcc", "HallusionBench accuracy by question pair.", True),
    _share("precision", "Precision", "Of the positive class: yes in POPE, no in AMBER.", True),
    _share("recall", "Recall", "Of the positive class: yes in POPE, no in AMBER.", True),
    _share("f1", "F1", "Of the positive class. Always yes on POPE scores .667.", True),
    _share("wrong_yes", "Wrong yes", "Share answered yes where the truth is no, by kind.", False),
    _share("wrong_no", "Wrong no", "Share answered no where the truth is yes, by kind.", False),
    Metric("n_tried", "Edits tried", "(latents, strength) that were run on dev questions.", None),
    Metric("n_screened", "Edits screened", "Those judged by attribution alone.", None),
    _share(
        "optimism_correction",
        "Optimism, corrected",
        "Corrected on dev minus corrected on test.",
        None,
        range=_BOTH,
    ),
    _share(
        "optimism_regression",
        "Optimism, broken",
        "Broken on dev minus broken on test.",
        None,
        range=_BOTH,
    ),
    _share(
        "net_over_matched",
        "Net over matched",
        "Net minus the mean net of live latents as common and as strong, moved equally far.",
        True,
        range=_BOTH,
    ),
    _share(
        "net_over_matched_p",
        "p over matched",
        "(1 + matched draws at least as good) / (1 + matched draws).",
        None,
    ),
    _share("better", "Better", "Share of all answers that were fixed; the paper's .09.", None),
    _share("same", "Same", "Share of all answers that stayed right or wrong.", None),
    _share("worse", "Worse", "Share of all answers that were broken; the paper's .02.", None),
    _share(
        "correction_precision",
        "Precision of change",
        "Fixed among fixed and broken. Chance .5.",
        True,
    ),
    _share(
        "pda_gain",
        "Gain in discrimination",
        "Paired discrimination minus that of the untouched model, and so of any constant offset.",
        True,
        range=_BOTH,
    ),
    Metric("d_prime", "d'", "z(hits) - z(false alarms) of yes; log-linear corrected.", True),
    Metric(
        "criterion",
        "Criterion",
        "-(z(hits) + z(false alarms)) / 2: above 0 the model prefers no.",
        None,
    ),
    _share(
        "balanced_accuracy",
        "Balanced accuracy",
        "Mean of the share right where yes is true and where no is. Chance .5.",
        True,
    ),
    _share(
        "unrelated_net",
        "Net on unrelated items",
        "Change of accuracy on items that no prior speaks about.",
        True,
        range=_BOTH,
    ),
    _share(
        "unrelated_p",
        "p of a change beyond 1 point",
        "Two one-sided tests over families: small means that accuracy on unrelated items is "
        "equivalent to before, within 1 point.",
        None,
    ),
    Metric(
        "kl",
        "KL on a neutral prompt",
        "KL(untouched || steered) of the first token of a description.",
        False,
        "nats",
        (0.0, None),
    ),
    _share(
        "degenerate",
        "Degenerate descriptions",
        "Empty, or most 4-grams repeated; the untouched model's share is the null.",
        False,
    ),
    _share(
        "reliance",
        "Visual reliance",
        "Share of the absolute attribution that lies on image tokens.",
        None,
    ),
    _share("share_question", "Share of the question", "The same on the question's words.", None),
    _share("share_template", "Share of the template", "The same on the template's words.", None),
    _share(
        "share_error",
        "Share of the error term",
        "What the SAE leaves unexplained: |error| / (|error| + latents' absolute attribution).",
        False,
    ),
    _share(
        "reliance_gap",
        "Reliance, wrong minus right",
        "Within question pairs. Below 0, wrong answers look less at the image.",
        None,
        range=_BOTH,
    ),
    Metric(
        "patch_shift",
        "Shift by the sibling's image",
        "How far the margin goes towards the sibling figure's true answer when its image tokens "
        "are put in place: 0 where the eyes have no say.",
        None,
        "logits",
        (None, None),
    ),
    _share(
        "patch_flip",
        "Flipped by the sibling's image",
        "Share of answers that become the sibling's true one.",
        None,
    ),
)
