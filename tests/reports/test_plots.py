"""Plots' data as pictures."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lmmsae_eval.reports.plots import draw


def plot(kind: str, *points: dict[str, Any]) -> dict[str, Any]:
    return {"title": "A plot", "kind": kind, "x": "layer", "y": "score", "points": list(points)}


def svg(kind: str, *points: dict[str, Any]) -> str:
    drawn = draw(plot(kind, *points))
    assert drawn is not None
    return drawn.svg


MARKER = r'<path id="\w+" d="([^"]+)"'
POINT = {"x": "boat", "y": 0.5, "low": 0.4, "high": 0.6, "series": "main"}


@pytest.mark.parametrize("kind", ["bars", "scatter", "lines", "reliability"])
def test_every_kind_of_plot_is_one_sound_element_with_its_labels(kind: str) -> None:
    element = ElementTree.fromstring(svg(kind, POINT, POINT | {"x": "sea", "series": "null"}))
    texts = {text.strip() for text in element.itertext()}
    assert element.tag.endswith("svg")
    assert {"layer", "score", "boat", "sea", "main", "null"} <= texts


def test_colours_are_the_pages_own_so_that_day_and_night_both_work() -> None:
    drawn = svg("bars", POINT)
    assert "var(--series-1)" in drawn
    assert "var(--ink-soft)" in drawn
    assert "#0a0" not in drawn


def test_the_same_data_gives_the_same_bytes() -> None:
    assert svg("lines", POINT) == svg("lines", POINT)


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=15, deadline=None)
def test_no_text_can_leave_its_place(text: str) -> None:
    dangerous = f"</text><script>{text}</script>$\\frac{{1}}{{2}}$"
    labelled = POINT | {"x": 1, "label": dangerous, "series": dangerous}
    element = ElementTree.fromstring(svg("scatter", labelled))
    assert not [child for child in element.iter() if child.tag.endswith("script")]


def test_a_formula_in_a_label_stays_text() -> None:
    assert "$x_1$" in svg("bars", POINT | {"x": "$x_1$"})


def test_points_without_a_value_are_left_out_and_a_plot_of_none_is_not_drawn() -> None:
    assert draw(plot("bars", POINT | {"y": None})) is None
    assert "sea" not in svg("bars", POINT, POINT | {"x": "sea", "y": None})


def test_bars_of_many_names_are_drawn_wide() -> None:
    many = draw(plot("bars", *(POINT | {"x": f"label {i}"} for i in range(12))))
    few = draw(plot("bars", POINT))
    assert many is not None
    assert few is not None
    assert (many.wide, few.wide) == (True, False)


def test_a_long_name_is_cut() -> None:
    drawn = svg("bars", POINT | {"x": "a" * 200})
    assert "a" * 27 + "…" in drawn
    assert "a" * 29 not in drawn


def test_no_name_of_a_point_leaves_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    named: list[Any] = []
    real = Axes.annotate
    monkeypatch.setattr(
        Axes, "annotate", lambda axes, *a, **k: named.append(real(axes, *a, **k)) or named[-1]
    )

    svg("scatter", *(POINT | {"x": x, "label": "w" * 20} for x in (2.0, 4.0, 4.1, 8.0)))

    picture = named[0].figure.bbox
    assert len(named) == 4
    for text in named:
        box = text.get_window_extent()
        assert picture.x0 <= box.x0
        assert box.x1 <= picture.x1


@pytest.mark.parametrize(
    ("kind", "form"), [("bars", r"<pattern"), ("lines", r"stroke-dasharray"), ("scatter", MARKER)]
)
def test_a_series_that_shares_a_colour_with_another_has_another_form(kind: str, form: str) -> None:
    def forms(n: int) -> set[str]:
        named = (POINT | {"series": f"arm {i}"} for i in range(n))
        return set(re.findall(form, svg(kind, *named)))

    assert forms(6) < forms(7)
