"""Three named scorings of one list of answers, against golden values of the real records."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.tasks.benchmarks.diagnosis import Cause, code, diagnose, shares
from lmmsae_eval.tasks.benchmarks.scorings import SCORINGS, score_by
from lmmsae_eval.tasks.hallucination.benchmark import is_right, score, without_figure
from lmmsae_eval.tasks.hallucination.questions import Question

THREE = ("aacc", "facc", "qacc")
GOLDEN = {
    ("paper", "yes"): [0.4287, 0.0723, 0.0396],
    ("paper", "no"): [0.5713, 0.1214, 0.1934],
    ("paper", None): [0.1577, 0.0, 0.0],
    ("lmms_eval", "yes"): [0.4217, 0.0723, 0.0462],
    ("lmms_eval", "no"): [0.5783, 0.1214, 0.2],
    ("lmms_eval", None): [0.0, 0.0, 0.0],
    ("vlmevalkit", "yes"): [0.4217, 0.0723, 0.0462],
    ("vlmevalkit", "no"): [0.5783, 0.1214, 0.2],
    ("vlmevalkit", None): [0.0, 0.0, 0.0],
}


@pytest.mark.parametrize(("scoring", "answer"), GOLDEN)
def test_a_constant_answerer_gets_the_golden_scores_of_every_scoring(
    hallusionbench, scoring, answer
):
    got = score_by(scoring, hallusionbench, [answer] * len(hallusionbench))
    assert [round(got.overall[name], 4) for name in THREE] == GOLDEN[scoring, answer]
    assert got.n == (1129 if scoring == "paper" else 951)
    assert got.unscorable == (got.n if answer is None else 0)


def test_only_vlmevalkit_splits_and_says_that_it_is_inferred(hallusionbench):
    answers = ["no"] * len(hallusionbench)
    found = {name: score_by(name, hallusionbench, answers) for name in SCORINGS}
    assert {name: len(each.splits) for name, each in found.items()} == {
        "paper": 1,
        "lmms_eval": 1,
        "vlmevalkit": 1 + 2 + 9,
    }
    assert "inferred from its code" in found["vlmevalkit"].note
    assert not found["paper"].note
    overall = found["vlmevalkit"].overall
    assert overall["mean"] == pytest.approx(np.mean([overall[name] for name in THREE]))


# aAcc, fAcc, qAcc in percent of a model's public VLMEvalKit output (its issue 825).
PUBLIC_OUTPUT = {
    "overall": (67.92849631966351, 37.861271676300575, 43.956043956043956),
    "VD": (65.31302876480541, 39.565217391304344, 37.545126353790614),
    "VS": (72.22222222222221, 34.48275862068966, 53.93258426966292),
    "VD_video": (55.88235294117647, 14.583333333333334, 17.391304347826086),
    "VS_map": (70.3125, 36.36363636363637, 40.625),
    "VS_ocr": (61.111111111111114, 34.61538461538461, 22.22222222222222),
    "VS_chart": (78.46153846153847, 37.5, 68.42105263157895),
    "VD_ocr": (83.14606741573034, 69.76744186046511, 67.44186046511628),
    "VD_math": (59.25925925925925, 22.22222222222222, 33.33333333333333),
}


@pytest.mark.parametrize("split", PUBLIC_OUTPUT)
def test_a_public_vlmevalkit_output_consists_of_fractions_of_our_denominators(
    hallusionbench, split
):
    seen = [Question(r) for r in hallusionbench if r["visual_input"] != "0"]
    here = [
        q
        for q in seen
        if split in ("overall", q.record["category"])
        or split == f"{q.record['category']}_{q.record['subcategory']}"
    ]
    denominators = len(here), len({q.figure for q in here}), len({q.pair for q in here})
    for percent, denominator in zip(PUBLIC_OUTPUT[split], denominators, strict=True):
        count = percent * denominator / 100
        assert count == pytest.approx(round(count), abs=1e-9)


COIN_ROW = {
    "aacc": (0.500, 0.015),
    "facc": (0.187, 0.020),
    "qacc": (0.194, 0.019),
    "easy_group": (0.405, 0.021),
    "hard_group": (0.460, 0.023),
    "pct_diff": (0.071, 0.015),
    "fp_ratio": (0.571, 0.015),
    "inconsistent": (0.628, 0.026),
    "consistent_wrong": (0.185, 0.020),
}
"""Mean and sd of one run."""


class Coin:
    """All of a scoring's groups as index arrays: thousands of draws in a second."""

    def __init__(self, records):
        questions = [Question(r) for r in records]
        self.gt = np.array([q.gt for q in questions])
        edited = np.array([r["visual_input"] == "2" for r in records])
        shown = np.array([not without_figure(q) for q in questions])
        self.figures = self._groups([q.figure for q in questions], shown)
        self.pairs = self._groups([q.pair for q in questions], np.ones_like(shown))
        self.easy = self._groups([q.pair for q in questions], ~edited)
        self.hard = self._groups([q.pair for q in questions], edited)

    @staticmethod
    def _groups(keys, kept):
        places = np.flatnonzero(kept)
        _, group = np.unique([keys[i] for i in places], return_inverse=True)
        return places, group

    def scores(self, yes):
        """`yes`: `(draws, records)` bool."""
        right = yes == self.gt
        wrong_no = (~right & ~self.gt).sum(1) / (~right).sum(1)
        figure_all, figure_any = self._all_any(right, self.figures)
        return {
            "aacc": right.mean(1),
            "facc": figure_all.mean(1),
            "qacc": self._all_any(right, self.pairs)[0].mean(1),
            "easy_group": self._all_any(right, self.easy)[0].mean(1),
            "hard_group": self._all_any(right, self.hard)[0].mean(1),
            "fp_ratio": wrong_no,
            "pct_diff": yes.mean(1) - self.gt.mean(),
            "inconsistent": (figure_any & ~figure_all).mean(1),
            "consistent_wrong": (~figure_any).mean(1),
        }

    def exact(self, name, otherwise):
        """The coin's expectation: a group of n is all right with probability 2^-n."""
        groups = {
            "facc": self.figures,
            "consistent_wrong": self.figures,
            "qacc": self.pairs,
            "easy_group": self.easy,
            "hard_group": self.hard,
        }
        if name == "inconsistent":
            return 1 - 2 * self.exact("facc", 0)
        if name not in groups:
            return otherwise
        return (0.5 ** np.bincount(groups[name][1])).mean()

    @staticmethod
    def _all_any(right, groups):
        places, group = groups
        n = group.max() + 1
        size = np.bincount(group, minlength=n)
        counts = np.stack([np.bincount(group, row, minlength=n) for row in right[:, places]])
        return counts == size, counts > 0


def test_a_fair_coin_of_2000_draws_scores_what_2_to_the_minus_n_says_and_the_published_row(
    hallusionbench,
):
    coin = Coin(hallusionbench)
    yes = np.random.default_rng(7).random((2000, len(hallusionbench))) < 0.5
    got = coin.scores(yes)
    for draw in range(3):  # the arrays say what the scorer says
        said = ["yes" if each else "no" for each in yes[draw]]
        slow = asdict(score(hallusionbench, said))
        assert all(got[name][draw] == pytest.approx(slow[name]) for name in got)
    for name, (mean, sd) in COIN_ROW.items():
        # The row was itself estimated from draws: it is near, the closed form is exact.
        assert abs(got[name].mean() - mean) < 0.2 * sd, name
        assert abs(got[name].mean() - coin.exact(name, mean)) < 3 * sd / np.sqrt(2000) + 0.0005
        assert got[name].std() == pytest.approx(sd, rel=0.2), name


def test_every_wrong_record_of_hallusionbench_has_one_cause_and_right_ones_none(hallusionbench):
    rng = np.random.default_rng(0)
    answers = [(None, "yes", "no")[i] for i in rng.integers(0, 3, len(hallusionbench))]
    causes = diagnose(hallusionbench, answers)
    rights = [is_right(Question(r), a) for r, a in zip(hallusionbench, answers, strict=True)]
    assert [cause is None for cause in causes] == rights
    assert set(causes) == {None, *Cause}
    found = shares(causes)
    assert found.n == rights.count(False)
    assert found.language + found.vision + found.mixed == pytest.approx(1)


def record(category, figure, visual_input, gt="0"):
    return {
        "category": category, "subcategory": "map", "set_id": "9", "question_id": "0",
        "figure_id": figure, "visual_input": visual_input, "gt_answer": gt,
    }  # fmt: skip


BOLIVIA = [record("VS", "0", "0", "1"), record("VS", "1", "1", "1"), record("VS", "2", "2", "0")]
VISUAL = [record("VD", "0", "1", "1"), record("VD", "1", "2", "0")]


@pytest.mark.parametrize(
    ("records", "answers", "causes"),
    [
        (BOLIVIA, ["yes", "yes", "yes"], [None, None, "LH"]),
        (BOLIVIA, ["no", "no", "yes"], ["LH", "LH", "Mixed"]),
        (BOLIVIA, ["no", None, "no"], ["LH", "Mixed", None]),
        (BOLIVIA, [None, "no", "yes"], [None, "VI", "VI"]),
        (BOLIVIA, ["yes", "no", None], [None, "VI", "VI"]),
        (VISUAL, ["yes", "yes"], [None, "Mixed"]),
        (VISUAL, ["no", "yes"], ["VI", "VI"]),
        (VISUAL, [None, None], ["VI", "VI"]),
    ],
)
def test_the_cause_of_a_wrong_answer_follows_the_papers_table(records, answers, causes):
    assert diagnose(records, answers) == causes


def test_a_judges_word_on_whether_two_replies_agree_is_taken_before_the_parsed_answers():
    assert diagnose(BOLIVIA, ["yes", "yes", "yes"], same=[True, True, False])[2] == "VI"
    assert diagnose(VISUAL, ["yes", "yes"], same=[True, False])[1] == "VI"


def test_without_its_figure_0_a_wrong_answer_has_no_cause():
    assert diagnose(BOLIVIA[1:], ["no", "yes"]) == [None, None]
    assert shares([None]).language is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["yes", "no", None]), min_size=3, max_size=3))
def test_the_code_of_an_answer_is_right_wrong_or_unclear(answers):
    for one, answer in zip(BOLIVIA, answers, strict=True):
        got = code(Question(one), answer)
        assert got == (2 if answer is None else int((answer == "yes") == (one["gt_answer"] == "1")))
