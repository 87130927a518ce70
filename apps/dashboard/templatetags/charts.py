"""Small charts: SVG that the server draws, with its words for all readers.

A chart is one picture to screen readers, and its title says what it shows.
Nothing is styled inline: classes of the style sheet give colours and sizes.
"""

from collections.abc import Iterable, Sequence

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()

#: A point has a label and a value; None: there is nothing to show.
Point = tuple[str, float | None]

_HEIGHT = 100


@register.simple_tag
def bars(points: Sequence[Point], title: str, unit: str = "") -> SafeString:
    """Return a bar for each point; on hover each says its own value."""
    most = _most(points)
    found = format_html_join(
        "",
        '<rect class="bar-{}" x="{}" y="{}" width="0.8" height="{}">'
        "<title>{}: {}</title></rect>",
        (
            (
                "some" if value else "none",
                number,
                _number(_HEIGHT - height),
                _number(height),
                label,
                _said(value, unit),
            )
            for number, (label, value) in enumerate(points)
            for height in [_height(value, most)]
        ),
    )
    return _picture("bars", len(points), _words(points, title, unit), found)


@register.simple_tag
def sparkline(
    points: Sequence[Point], title: str, unit: str = ""
) -> SafeString:
    """Return a line through the points; it ends where there is none."""
    most = _most(points)
    found = format_html_join(
        "",
        '<polyline points="{}"/>',
        ((_line(run, most),) for run in _runs(points)),
    )
    return _picture(
        "sparkline", len(points), _words(points, title, unit), found
    )


@register.simple_tag
def bands(parts: Sequence[tuple[str, float, str]], title: str) -> SafeString:
    """Return one bar, divided: label, share of 1 and colour of each part."""
    said = ", ".join(f"{label} {percent(share)}" for label, share, _ in parts)
    begins = 0.0
    rects = []
    for label, share, colour in parts:
        rects.append((colour, _number(begins * 100), _number(share * 100),
                      label, percent(share)))
        begins += share
    found = format_html_join(
        "",
        '<rect class="{}" x="{}" y="0" width="{}" height="100">'
        "<title>{}: {}</title></rect>",
        rects,
    )
    return _picture("bands", 100, f"{title}: {said}", found)


@register.filter
def percent(share: float) -> str:
    """Return a share; one that is not all is never rounded up to it."""
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


@register.filter
def ms(milliseconds: float | None) -> str:
    """Return a duration that is given in milliseconds."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1_000:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds / 1_000:,.1f} s"


def _picture(
    kind: str, width: int, words: str, content: SafeString
) -> SafeString:
    return format_html(
        '<svg class="chart {}" viewBox="0 0 {} {}" role="img"'
        ' aria-label="{}" preserveAspectRatio="none">{}</svg>',
        kind, max(width, 1), _HEIGHT, words, content,
    )


def _words(points: Sequence[Point], title: str, unit: str) -> str:
    """Say what a chart shows: its bounds, its most and its last."""
    known = [(label, value) for label, value in points if value is not None]
    if not known:
        return f"{title}: nothing"
    label, most = max(known, key=lambda point: point[1])
    return (
        f"{title}, {points[0][0]} to {points[-1][0]}: at most"
        f" {_said(most, unit)} ({label}), last {_said(known[-1][1], unit)}"
    )


def _said(value: float | None, unit: str) -> str:
    if value is None:
        return "nothing"
    digits = 0 if value == int(value) else 1
    return f"{value:,.{digits}f} {unit}".rstrip()


def _most(points: Iterable[Point]) -> float:
    return max((value or 0 for _, value in points), default=0) or 1


def _height(value: float | None, most: float) -> float:
    """Return a bar's height; what is more than nothing can be seen."""
    return max(2.0, _HEIGHT * value / most) if value else 0.0


def _runs(points: Iterable[Point]) -> list[list[tuple[int, float]]]:
    """Return the parts of a line, between points that are not there."""
    runs: list[list[tuple[int, float]]] = [[]]
    for number, (_, value) in enumerate(points):
        if value is not None:
            runs[-1].append((number, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _line(run: Sequence[tuple[int, float]], most: float) -> str:
    """Return the corners of a line; a point alone is as long as a step."""
    corners = [
        (number + 0.5, _HEIGHT * (1 - value / most) * 0.96 + 2)
        for number, value in run
    ]
    if len(corners) == 1:
        ((x, y),) = corners
        corners = [(x - 0.5, y), (x + 0.5, y)]
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in corners)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
