"""How moments, durations, numbers and attempts are said."""

from collections.abc import Iterable
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta

from apps.timers.storage.records import Attempt
from apps.webhooks.results import FailureKind

_UNITS = (("day", 86_400), ("h", 3600), ("min", 60), ("s", 1))
#: The kinds of errors with which a request may have left.
_MAY_HAVE_LEFT = frozenset(
    kind.value for kind in FailureKind if not kind.unsent
)


def moment(at: datetime) -> str:
    """Return a moment as the API writes it, in UTC."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def span(duration: timedelta) -> str:
    """Return how long something lasts, in two units at most."""
    seconds = abs(duration.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    left = round(seconds)
    parts = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            plural = "s" if unit == "day" and count > 1 else ""
            parts.append(f"{count} {unit}{plural}")
        elif parts:
            break
    return " ".join(parts[:2])


def later(at: datetime, by: timedelta) -> datetime:
    """Add; stay in the years that Python has, whatever a row holds."""
    try:
        return at + by
    except OverflowError:
        year = MAXYEAR if by > timedelta(0) else MINYEAR
        return datetime(year, 1, 1, tzinfo=UTC)


def often(count: int) -> str:
    """Say how often something was, if it was."""
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def text(sentences: Iterable[str]) -> str:
    """Return sentences as one text."""
    return " ".join(each for each in sentences if each)


def kind_of(error: str | None) -> str:
    """Return the kind of an error, such as `refused`."""
    return (error or "").partition(":")[0]


def detail_of(error: str | None) -> str:
    """Return what an error says besides its kind."""
    return (error or "").partition(": ")[2]


def outcome(attempt: Attempt) -> tuple[str, str]:
    """Say what came of an attempt: in a word or two, and in a sentence."""
    name, kind = f"Attempt {attempt.number}", kind_of(attempt.error)
    if attempt.status_code is not None:
        answered = f"{name} was answered {attempt.status_code}"
        if attempt.error is None:
            return "answered", f"{answered}."
        return "answered", f"{answered}; then: {attempt.error}."
    if kind == "worker_lost":
        return "worker lost", f"{name}: its worker died before the call."
    if kind == "unknown":
        return "worker lost", (
            f"{name}: its worker died after the request had left."
        )
    if attempt.sent_at is None and kind not in _MAY_HAVE_LEFT:
        return "not sent", f"{name} could not be sent: {attempt.error}."
    return "no answer", f"{name} got no answer: {attempt.error}."
