"""What reports show of captions where several SAEs share a hookpoint."""

from __future__ import annotations

from lmmsae_eval.harness.task import MetricRow
from lmmsae_eval.tasks.captions.pictures import caption_cards, caption_plots
from lmmsae_eval.tasks.hallucination.questions import Question

FIGURE = Question({"category": "VD", "subcategory": "x", "set_id": "0", "figure_id": "1"})


def line(arm, sae, wrong):
    return {
        "id": f"{sae}/{arm}",
        "arm": arm,
        "sae": sae,
        "hookpoint": sae and "layers.0",
        "status": "ok",
        "detail": {"figure": FIGURE.figure, "text": "t", "objects": ["boat"], "wrong": wrong},
    }


def test_every_sae_at_a_hookpoint_has_its_own_cards():
    lines = [
        line("untouched", None, ["car"]),
        line("main", "one", []),
        line("main", "two", ["car", "dog"]),
    ]
    cards = list(caption_cards(lines, {FIGURE.figure: FIGURE}, lambda record: None))
    assert [(card.sample, card.tags["verdict"]) for card in cards] == [
        ("one/main", "fixed"),
        ("two/main", "broken"),
    ]


def test_what_is_made_up_and_recalled_are_of_the_same_sae():
    values = {"one": (0.1, 0.8), "two": (0.4, 0.5)}
    rows = [
        MetricRow(metric, value, 9, 9, sae=sae, hookpoint="layers.0")
        for sae, pair in values.items()
        for metric, value in zip(("chair_i", "object_recall"), pair, strict=True)
    ]
    _, tradeoff = caption_plots(rows)
    assert [(point["x"], point["y"]) for point in tradeoff.points] == [(0.1, 0.8), (0.4, 0.5)]
