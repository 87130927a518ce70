"""How pages write moments and lateness."""

from datetime import UTC, datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

#: Milliseconds from which on a call counts as late.
LATE = 50


@register.filter
def moment(value: datetime | None, kind: str = "") -> str | SafeString:
    """Return a moment that the script shows in the viewer's zone.

    "near": the script shows how far away it is, and counts. Without the
    script the text is in UTC.
    """
    if value is None:
        return ""
    exact = value.astimezone(UTC)
    text = exact.strftime("%Y-%m-%d %H:%M:%S")
    milliseconds = f"{exact.microsecond // 1000:03}"
    return format_html(
        '<time datetime="{}" title="{}" data-kind="{}">{} UTC</time>',
        exact.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds}Z"),
        f"{text}.{milliseconds} UTC",
        kind,
        text,
    )


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
