"""Reading rows: into records, or as far as they can be read.

An older version, or somebody's SQL, may have written a row. Reading it raises
one of `aside.ROW_ERRORS`, or returns a record that can be worked with.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar
from uuid import UUID

from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.datetime import IntervalLoader, TimestamptzLoader
from psycopg.types.json import JsonbLoader

from apps.core.database import Connection
from apps.core.rows import Row, named
from apps.core.sealing import ring
from apps.timers.models import Outcome
from apps.timers.storage import sealed
from apps.timers.storage.aside import ROW_ERRORS
from apps.timers.storage.claim_records import Answered, Claim, Early
from apps.timers.storage.records import (
    Attempt,
    ClockReading,
    Definition,
    StoredTimer,
)
from apps.webhooks.request import METHODS, WebhookRequest
from apps.webhooks.retry import RetryPolicy

Record = TypeVar("Record")

#: That a timer has not ended and is not called, in statements that find timers
#: by their ids. If these said IS NULL, Postgres might read a whole partial
#: index instead. It takes one that was empty when it last looked for empty.
IS_WAITING = "num_nulls(fired_at, outcome) = 2"
#: The largest number that the attempts' column holds.
_MOST_ATTEMPTS = 2**31 - 1
#: Twice the longest WEBHOOK_CONNECT_RETRY_SECONDS: clocks may be set.
_LONGEST_RETRYING = timedelta(days=2)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
#: The moments without which there is no record.
_REQUIRED = frozenset({"created_at", "due_at", "next_at", "at", "seen_at"})
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


def _getter(record: type[Any]) -> Callable[[Row], tuple[Any, ...]]:
    """Return what gets a row's values for a record, in its fields' order.

    All but those that have to be read or checked before.
    """
    made = {"clock", "request", "retry", "labels"}
    names = [field.name for field in fields(record)]
    return itemgetter(*(name for name in names if name not in made))


#: What `claim` reads: the columns are named as the fields of a Claim.
CLAIMED = """
    method, headers, body, encrypted_with, retry, timer.id,
    claim_token AS token,
    account_id AS account, url,
    created_at, due_at, next_at,
    coalesce(replayed_at, due_at) + max_lateness AS latest_at,
    connect_failures, retry_until, attempts, claims, retries,
    sent_at IS NOT NULL AS called, labels
"""

#: The values of a Claim that are columns as they are.
_claimed = _getter(Claim)

#: A timer's status, of nine; an outcome that no version wrote is a failure.
#: Indexes have this expression, so it reads no column that a mark changes.
STATUS = """
    CASE WHEN outcome IN ('delivered', 'unknown', 'missed', 'cancelled')
         THEN outcome
         WHEN outcome IS NOT NULL THEN 'failed'
         WHEN fired_at IS NOT NULL THEN 'firing'
         WHEN deferred THEN 'deferred'
         WHEN attempts = 0 AND claims = 0 THEN 'scheduled'
         ELSE 'retrying' END
"""

#: What `stored_timers` reads: the columns are named as the fields of a
#: StoredTimer. They can be computed whatever a row holds.
SHOWN = f"""
    retry, id, url, method,
    greatest(0, ceil(extract(
        epoch FROM least(greatest(due_at, 'epoch'), '9999-12-31T00:00Z')
                   - clock_timestamp()
    )))::bigint AS time_left,
    created_at, due_at, next_at, fired_at, sent_at, outcome, deferred,
    status_code, error, at_least_once, max_lateness, key, labels, version,
    attempts::bigint + claims AS attempts, {STATUS} AS status, erased_at
"""
#: The values of a StoredTimer that are columns as they are.
_shown = _getter(StoredTimer)


def claim_answer(row: Row, clock: ClockReading) -> Claim | Early:
    """Return the answer to a claim.

    Raises ValueError for a claimed row that can't be called.
    """
    wait = row["wait"]
    if wait is not None:
        return Early(wait.total_seconds(), row["moved"])
    return claim(row, clock)


def claim(row: Row, clock: ClockReading) -> Claim:
    """Return a claim; raise ValueError for a row that can't be called."""
    method = row["method"]
    if method not in METHODS:
        raise ValueError(f"method is {method[:20]!r}")
    granted = Claim(
        clock,
        _request(row),
        _policy(row["retry"]),
        _strings("labels", row["labels"]),
        *_claimed(row),
    )
    _check_counters(granted)
    return granted


def definition(row: Row) -> Definition:
    """Return what a timer calls; raise ValueError if it can't be read."""
    return Definition(
        row["url"],
        _request(row),
        row["at_least_once"],
        _policy(row["retry"]),
        row["max_lateness"],
        _strings("labels", row["labels"]),
    )


def answered(row: Row, clock: ClockReading) -> Answered:
    """Return a claim that was answered, as `claim` does.

    It is not called, so nothing is decrypted.
    """
    if row["encrypted_with"] is not None:
        row |= {"headers": None, "body": None, "encrypted_with": None}
    return Answered(claim(row, clock), row["answered"], row["left_at"])


def _request(row: Row) -> WebhookRequest:
    headers, body = row["headers"], row["body"]
    if row["encrypted_with"] is not None:
        headers, body = sealed.request(ring(), row)
    return WebhookRequest(row["method"], _strings("headers", headers), body)


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


def _strings(name: str, value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(
        isinstance(text, str) for text in value.values()
    ):
        raise ValueError(f"{name} is no object of strings")
    return value


def _policy(value: Any) -> RetryPolicy | None:
    return RetryPolicy.read(value) if value else None


def stored_timers(
    connection: Connection, query: str, values: Mapping[str, Any]
) -> list[StoredTimer]:
    """Return the timers that a query shows, each as far as it can be read."""
    try:
        rows = named(connection.execute(query, values))
        return [stored_timer(row) for row in rows]
    except ROW_ERRORS:
        rows = _read_leniently(connection, query, values)
        return [_as_far_as_readable(StoredTimer, row) for row in rows]


def stored_timer(row: Row) -> StoredTimer:
    """Return a timer from a row with the columns that are SHOWN.

    Raises ValueError for a row that can't be read.
    """
    timer = StoredTimer(
        _policy(row["retry"]),
        _strings("labels", row["labels"]),
        *_shown(row),
    )
    if timer.outcome is not None and timer.outcome not in _OUTCOMES:
        raise ValueError(f"outcome is {timer.outcome!r}")
    return timer


def attempts(
    connection: Connection, query: str, values: Mapping[str, Any]
) -> list[Attempt]:
    """Return a timer's attempts, as far as they can be read."""
    found = records(Attempt, connection, query, values)
    return [_opened(values["id"], each) for each in found]


def _opened(timer_id: UUID, attempt: Attempt) -> Attempt:
    """Return an attempt with its answer decrypted, or with an error."""
    if attempt.encrypted_with is None or attempt.answer is None:
        return attempt
    try:
        answer = ring().unseal(
            attempt.encrypted_with,
            attempt.answer,
            sealed.answer_place(timer_id, attempt.number),
        )
    except ValueError as error:
        said = attempt.error or f"invalid: answer: {error}"
        return replace(attempt, answer=None, error=said)
    return replace(attempt, answer=answer)


def records(
    kind: type[Record],
    connection: Connection,
    query: str,
    values: Mapping[str, Any],
) -> list[Record]:
    """Return what a query finds, each record as far as it can be read.

    The columns are named as the fields of that kind of record.
    """
    try:
        rows = named(connection.execute(query, values))
        return [kind(**row) for row in rows]
    except ROW_ERRORS:
        rows = _read_leniently(connection, query, values)
        return [_as_far_as_readable(kind, row) for row in rows]


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
) -> list[Row]:
    cursor = connection.cursor()
    for name, loader in _LENIENT.items():
        cursor.adapters.register_loader(name, loader)
    return named(cursor.execute(query, values))


def _as_far_as_readable(kind: type[Record], row: Row) -> Record:
    """Return a record whose `error` says which columns can't be read."""
    problems = []
    for name, value in row.items():
        if isinstance(value, _Unreadable):
            problems.append(f"{name} is {value.text}")
            is_required = name in _REQUIRED
            row[name] = value.nearest() if is_required else None
    if kind is StoredTimer:
        problems += _mend(row)
    if problems and row.get("error", "") is None:
        row["error"] = f"invalid: {'; '.join(problems)}"
    return kind(**row)


def _mend(row: Row) -> list[str]:
    """Replace what the API can't show of a row; return what was wrong."""
    problems = []
    for name, read in (
        ("retry", _policy), ("labels", partial(_strings, "labels")),
    ):
        try:
            row[name] = read(row[name])
        except ValueError as error:
            problems.append(str(error))
            row[name] = None
    if row["outcome"] is not None and row["outcome"] not in _OUTCOMES:
        problems.append(f"outcome is {row['outcome'][:20]!r}")
        row["outcome"] = Outcome.FAILED.value
    return problems
