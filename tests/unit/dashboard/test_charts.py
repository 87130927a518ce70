"""Charts: what they draw is what they say."""

import re
from xml.etree import ElementTree

import pytest

from apps.dashboard.templatetags.charts import bands, bars, sparkline


def words(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    return root.get("aria-label", "")


def test_each_point_has_a_bar_with_its_value() -> None:
    svg = bars([("10:00", 4), ("10:01", 0), ("10:02", 1)], "due", "timers")
    heights = re.findall(r'class="bar-(\w+)"[^>]* height="([\d.]+)"', svg)
    assert heights == [("some", "100"), ("none", "0"), ("some", "25")]
    assert re.findall("<title>(.*?)</title>", svg) == [
        "10:00: 4 timers", "10:01: 0 timers", "10:02: 1 timers",
    ]
    assert words(svg) == (
        "due, 10:00 to 10:02: at most 4 timers (10:00), last 1 timers"
    )


def test_a_small_value_beside_a_large_one_can_be_seen() -> None:
    svg = bars([("a", 1), ("b", 1_000_000)], "due")
    assert re.findall(r' height="([\d.]+)"', svg) == ["2", "100"]


def test_a_line_ends_where_nothing_is_known() -> None:
    svg = sparkline(
        [("a", 1), ("b", 3), ("c", None), ("d", 2)], "took", "ms"
    )
    assert len(re.findall("<polyline", svg)) == 2
    assert 'points="0.5,66 1.5,2"' in svg
    assert 'points="3,34 4,34"' in svg
    assert words(svg) == "took, a to d: at most 3 ms (b), last 2 ms"


@pytest.mark.parametrize("points", [[], [("a", None)], [("a", 0)]])
def test_nothing_is_drawn_without_an_error(
    points: list[tuple[str, float | None]],
) -> None:
    for chart in (bars, sparkline):
        words(chart(points, "due"))
    assert words(bars([], "due")) == "due: nothing"


def test_bands_stand_one_behind_the_other() -> None:
    svg = bands(
        [("5 ms", 0.9, "ok"), ("50 ms", 0.0999, "wait"), ("later", 0.0001,
                                                          "bad")],
        "within",
    )
    assert re.findall(r'class="(\w+)" x="([\d.]+)"', svg) == [
        ("ok", "0"), ("wait", "90"), ("bad", "99.99"),
    ]
    assert words(svg) == "within: 5 ms 90.0 %, 50 ms 10.0 %, later 0.1 %"


@pytest.mark.parametrize(
    ("share", "said"),
    [(1, "100 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0, "0 %")],
)
def test_only_all_is_called_all(share: float, said: str) -> None:
    assert words(bands([("5 ms", share, "ok")], "w")) == f"w: 5 ms {said}"


def test_what_others_have_chosen_is_escaped() -> None:
    svg = bars([('<script>"', 1)], '"><script>')
    assert words(svg).startswith('"><script>')
    assert "<script>" not in svg
