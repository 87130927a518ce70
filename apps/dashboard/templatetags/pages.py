"""How pages write moments, lateness, statuses and numbers."""

from datetime import UTC, datetime, timedelta

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

#: Milliseconds from which on a call counts as late.
LATE = 50
#: Seconds from which on something was a while ago.
LONG = 10

#: A status is a shape, a colour's class and a word.
_STATUSES = {
    "scheduled": ("○", "wait"),
    "firing": ("◐", "wait"),
    "retrying": ("↻", "warn"),
    "deferred": ("‖", "warn"),
    "delivered": ("●", "ok"),
    "failed": ("✕", "bad"),
    "unknown": ("?", "odd"),
    "missed": ("∅", "bad"),
    "cancelled": ("–", "muted"),
}
#: The same for what `/readyz` says of a server.
_PARTS = {"ok": "ok", "not used": "muted"}


@register.filter
def moment(value: datetime | None, kind: str = "") -> str | SafeString:
    """Return a moment that the script shows in the viewer's zone.

    "near": the script shows how far away it is, and counts. Without the
    script the text is in UTC.
    """
    if value is None:
        return ""
    exact = value.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}" data-kind="{}">{} UTC</time>',
        f"{exact:%Y-%m-%dT%H:%M:%S}.{exact.microsecond // 1000:03}Z",
        exactly(value),
        kind,
        exact.strftime("%Y-%m-%d %H:%M:%S"),
    )


@register.filter
def exactly(value: datetime) -> str:
    """Return a moment to the millisecond, in UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d} {clock(value)}"


@register.filter
def lateness(milliseconds: float | None) -> str | SafeString:
    """Return how late something was, in words; marked if it was late."""
    if milliseconds is None:
        return ""
    return format_html(
        '<span class="{}">{}</span>',
        "warn" if milliseconds > LATE else "number",
        _late(milliseconds),
    )


def _late(milliseconds: float) -> str:
    if milliseconds < 0:
        return f"{-milliseconds:,.1f} ms early"
    if milliseconds < 1000:
        return f"{milliseconds:,.1f} ms late"
    return f"{milliseconds / 1000:,.1f} s late"


@register.filter
def status(name: str) -> SafeString:
    """Return a timer's status."""
    shape, colour = _STATUSES[name]
    return format_html(
        '<span class="{}"><span aria-hidden="true">{} </span>{}</span>',
        colour, shape, name,
    )


@register.filter
def colour(state: str) -> str:
    """Return the class of a status, if a state is one."""
    return _STATUSES.get(state, ("", ""))[1]


@register.filter
def shape(state: str) -> str:
    """Return the shape of a status, and a space, if a state is one."""
    return f"{_STATUSES[state][0]} " if state in _STATUSES else ""


@register.filter
def clock(value: datetime) -> str:
    """Return a moment's time of day, in UTC."""
    exact = value.astimezone(UTC)
    return f"{exact:%H:%M:%S}.{exact.microsecond // 1000:03} UTC"


@register.filter
def part(name: str) -> SafeString:
    """Return how a server is."""
    return format_html('<span class="{}">{}</span>', _PARTS.get(name, "bad"),
                       name)


@register.filter
def counted(count: int, most: int) -> str:
    """Return a count that goes no further than `most`."""
    return f"{count:,}+" if count >= most else f"{count:,}"


@register.filter
def thousands(number: int) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


@register.filter
def ago(seconds: float) -> str:
    """Return how long ago something was, roughly: it is shown for a while."""
    return "now" if seconds < LONG else f"{seconds:.0f} s ago"


@register.filter
def milliseconds(duration: timedelta | None) -> str:
    """Return how long something took."""
    if duration is None:
        return ""
    return _span(duration.total_seconds())


@register.filter
def lasting(seconds: float) -> str:
    """Return how long something takes, given in seconds."""
    return _span(seconds)


@register.filter
def whole(number: float) -> str:
    """Return the nearest whole number, with its thousands apart."""
    return f"{number:,.0f}"


@register.filter
def gap(duration: timedelta) -> str:
    """Return how long after something else something was."""
    return f"+{_span(duration.total_seconds())}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:,.1f} ms"
    if seconds < 120:
        return f"{seconds:,.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


@register.filter
def decoded(body: bytes | None) -> str:
    """Return a body as text, as far as it is text."""
    return (body or b"").decode(errors="replace")
