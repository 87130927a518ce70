"""Reading rows: into records, or as far as they can be read.

An older version, or somebody's SQL, may have written a row. Reading it raises
one of `aside.ROW_ERRORS`, or returns a record that can be worked with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.datetime import IntervalLoader, TimestamptzLoader
from psycopg.types.json import JsonbLoader

from apps.core.database import Connection
from apps.timers.models import Outcome
from apps.timers.storage.aside import ROW_ERRORS
from apps.timers.storage.records import (
    Attempt,
    Claim,
    ClockReading,
    Early,
    StoredTimer,
)
from apps.webhooks.request import METHODS, WebhookRequest
from apps.webhooks.retry import RetryPolicy

Shown = TypeVar("Shown", StoredTimer, Attempt)

#: The largest number that the attempts' column holds.
_MOST_ATTEMPTS = 2**31 - 1
#: Twice the longest WEBHOOK_CONNECT_RETRY_SECONDS: clocks may be set.
_LONGEST_RETRYING = timedelta(days=2)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def claim_answer(
    row: tuple[Any, ...], clock: ClockReading
) -> tuple[UUID, Claim | Early]:
    """Return the token of a claim, and the answer to it.

    Raises ValueError for a claimed row that can't be called.
    """
    token, wait, *rest = row
    if wait is not None:
        return token, Early(wait.total_seconds())
    return token, claim(rest, clock)


def claim(row: Sequence[Any], clock: ClockReading) -> Claim:
    """Return a claim; raise ValueError for a row that can't be called."""
    method, headers, body, retry, *rest = row
    if method not in METHODS:
        raise ValueError(f"method is {method[:20]!r}")
    request = WebhookRequest(method, _headers(headers), body)
    granted = Claim(clock, request, _policy(retry), *rest)
    _check_counters(granted)
    return granted


def _check_counters(claim: Claim) -> None:
    """Raise ValueError for counters with which a timer might never end."""
    if not 1 <= claim.attempt <= _MOST_ATTEMPTS:
        raise ValueError(f"attempts would be {claim.attempt}")
    for name in ("claims", "retries", "connect_failures"):
        if getattr(claim, name) < 0:
            raise ValueError(f"{name} is less than 0")
    until = claim.retry_until
    if until and until - claim.clock.database > _LONGEST_RETRYING:
        raise ValueError("retry_until is more than two days ahead")


def _headers(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(
        isinstance(text, str) for text in value.values()
    ):
        raise ValueError("headers is no object of strings")
    return value


def _policy(value: Any) -> RetryPolicy | None:
    return RetryPolicy.read(value) if value else None


def stored_timers(
    connection: Connection, query: str, values: Mapping[str, Any]
) -> list[StoredTimer]:
    """Return the timers that a query shows, each as far as it can be read."""
    try:
        rows = connection.execute(query, values).fetchall()
        return [_stored(row) for row in rows]
    except ROW_ERRORS:
        rows = _read_leniently(connection, query, values)
        return [_as_far_as_readable(StoredTimer, row) for row in rows]


def _stored(row: Sequence[Any]) -> StoredTimer:
    retry, *rest = row
    timer = StoredTimer(_policy(retry), *rest)
    if timer.outcome is not None and timer.outcome not in _OUTCOMES:
        raise ValueError(f"outcome is {timer.outcome!r}")
    return timer


def attempts(
    connection: Connection, query: str, values: Mapping[str, Any]
) -> list[Attempt]:
    """Return the attempts that a query finds, as far as they can be read."""
    try:
        rows = connection.execute(query, values).fetchall()
        return [Attempt(*row) for row in rows]
    except ROW_ERRORS:
        rows = _read_leniently(connection, query, values)
        return [_as_far_as_readable(Attempt, row) for row in rows]


class _Unreadable:
    """A value that Python can't hold, as Postgres writes it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def nearest(self) -> datetime:
        """Return the moment nearest to this one that Python can hold."""
        is_past = self.text.startswith("-") or self.text.endswith("BC")
        return _FIRST if is_past else _LAST


def _lenient(loader: type[Loader]) -> type[Loader]:
    """Return a loader that returns _Unreadable for what it can't load."""

    class Lenient(loader):  # type: ignore[valid-type, misc]
        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except ROW_ERRORS:
                return _Unreadable(bytes(data[:40]).decode(errors="replace"))

    return Lenient


_LENIENT = {
    "timestamptz": _lenient(TimestamptzLoader),
    "interval": _lenient(IntervalLoader),
    "jsonb": _lenient(JsonbLoader),
}


def _read_leniently(
    connection: Connection, query: str, values: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    for name, loader in _LENIENT.items():
        cursor.adapters.register_loader(name, loader)
    return cursor.execute(query, values).fetchall()


def _as_far_as_readable(
    kind: type[Shown], row: Sequence[Any]
) -> Shown:
    """Return a record whose `error` says which columns can't be read."""
    names = [field.name for field in fields(kind)]
    values = dict(zip(names, row, strict=True))
    problems = []
    for name, value in values.items():
        if isinstance(value, _Unreadable):
            problems.append(f"{name} is {value.text}")
            is_required = name in ("created_at", "due_at", "next_at")
            values[name] = value.nearest() if is_required else None
    if kind is StoredTimer:
        problems += _mend(values)
    if problems and values["error"] is None:
        values["error"] = f"invalid: {'; '.join(problems)}"
    return kind(**values)


def _mend(values: dict[str, Any]) -> list[str]:
    """Replace what the API can't show of a row; return what was wrong."""
    problems = []
    try:
        values["retry"] = _policy(values["retry"])
    except ValueError as error:
        problems.append(str(error))
        values["retry"] = None
    if values["outcome"] is not None and values["outcome"] not in _OUTCOMES:
        problems.append(f"outcome is {values['outcome'][:20]!r}")
        values["outcome"] = Outcome.FAILED.value
    return problems
