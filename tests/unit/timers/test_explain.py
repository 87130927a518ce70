"""A timer in sentences: the whole answer for each situation."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from apps.timers.explain.answer import Explanation, explain
from apps.timers.explain.words import later, moment, often, span
from apps.timers.storage.explaining import (
    MOST,
    Details,
    Event,
    History,
    Role,
)
from apps.timers.storage.records import Attempt, StoredTimer
from apps.webhooks.retry import RetryPolicy

DUE = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
CREATED = DUE - timedelta(hours=1)
RETRY = RetryPolicy(5, 10, 3600, unanswered=False)


def at(seconds: float) -> datetime:
    """Return a moment that is so long after the timer's time."""
    return DUE + timedelta(seconds=seconds)


def timer(**columns: Any) -> StoredTimer:
    values: dict[str, Any] = {
        "retry": None, "id": UUID(int=1), "url": "http://example.com/",
        "method": "POST", "time_left": 0, "created_at": CREATED,
        "due_at": DUE, "next_at": DUE, "fired_at": None, "sent_at": None,
        "outcome": None, "deferred": False, "status_code": None,
        "error": None, "at_least_once": False, "max_lateness": None,
        "key": None, "labels": None, "version": 1, "attempts": 0,
    }
    return StoredTimer(**values | columns)


def attempt(
    number: int = 1,
    code: int | None = None,
    error: str | None = None,
    sent: float | None = None,
    due: float = 0,
) -> Attempt:
    took = None if error and "worker" in error else timedelta(seconds=0.012)
    sent_at = None if sent is None else at(sent)
    return Attempt(number, at(due), sent_at, code, error, took, None)


def event(
    what: str, when: float, old: float | None = None, new: float | None = None
) -> Event:
    return Event(
        1, at(when), what,
        None if old is None else at(old), None if new is None else at(new),
    )


def told(
    now: float = 0,
    of: StoredTimer | None = None,
    attempts: tuple[Attempt, ...] = (),
    events: tuple[Event, ...] = (),
    roles: dict[str, Role] | None = None,
    has_rabbitmq: bool = True,
    **details: Any,
) -> Explanation:
    """Explain a timer, so many seconds after its time."""
    well = {
        name: Role(name, at(now), None) for name in ("dispatcher", "worker")
    }
    history = History(
        of or timer(), Details(at(now), **details), events, attempts,
        well if roles is None else roles,
    )
    return explain(history, has_rabbitmq=has_rabbitmq)


BUSY = "busy: 9 calls to example.com:80 are under way, its share"
HANGING = "hanging: the last 5 calls to example.com:80 got no answer"
LOST = "worker_lost: the worker died before the call"
GONE_AFTER = "unknown: the worker died after the request had left"
CALLED: dict[str, Any] = {"fired_at": at(0), "attempts": 1}
CLAIM: dict[str, Any] = {"leased_until": at(20), "claims": 1}

#: A situation, then its summary, and when what happens next.
SITUATIONS: dict[str, tuple[dict[str, Any], str, float | None, str]] = {
    "far": (
        {"now": -598},
        "It is called at 2026-11-27T12:00:00.000Z, in 9 min 58 s. It waits in"
        " Postgres; RabbitMQ gets a message for it 1 min before.",
        0, "It is called.",
    ),
    "near, in RabbitMQ": (
        {"now": -30, "queued_at": at(-60)},
        "It is called at 2026-11-27T12:00:00.000Z, in 30 s. A message for it"
        " has been in RabbitMQ since 2026-11-27T11:59:00.000Z.",
        0, "It is called.",
    ),
    "just near": (
        {"now": -59.5},
        "It is called at 2026-11-27T12:00:00.000Z, in 1 min. RabbitMQ gets a"
        " message for it in this second.",
        0, "It is called.",
    ),
    "just moved to near": (
        {"now": -30, "events": (event("moved", -30.2, 600, 0),)},
        "It is called at 2026-11-27T12:00:00.000Z, in 30 s. RabbitMQ gets a"
        " message for it in this second. It was moved once, from"
        " 2026-11-27T12:10:00.000Z to 2026-11-27T12:00:00.000Z.",
        0, "It is called.",
    ),
    "just put off": (
        {"now": 1, "of": timer(deferred=True, error=BUSY, next_at=at(4.5))},
        "It is put off because its host has its share of calls: 9 calls to"
        " example.com:80 are under way, its share. It is called again at"
        " 2026-11-27T12:00:04.500Z, in 4 s. RabbitMQ gets a message for it in"
        " this second.",
        4.5, "It is called again.",
    ),
    "just tried": (
        {"now": 1, "connect_failures": 1, "retry_until": at(900),
         "of": timer(error="refused: x", next_at=at(2), attempts=1),
         "attempts": (attempt(error="refused: nobody there"),)},
        "Attempt 1 could not be sent: refused: nobody there. It is tried"
        " until 2026-11-27T12:15:00.000Z; if it can't be sent by then, it ends"
        " as failed. It is called again at 2026-11-27T12:00:02.000Z, in 1 s."
        " RabbitMQ gets a message for it in this second.",
        2, "It is called again.",
    ),
    "near, RabbitMQ away": (
        {"now": -30, "roles": {
            "dispatcher": Role(
                "dispatcher", at(-31), "RabbitMQ can't be reached"
            ),
        }},
        "It is called at 2026-11-27T12:00:00.000Z, in 30 s. RabbitMQ should"
        " have had a message for it since 2026-11-27T11:59:00.000Z, and has"
        " none. A dispatcher reports: RabbitMQ can't be reached.",
        0, "It is called.",
    ),
    "near, standalone": (
        {"now": -30, "has_rabbitmq": False},
        "It is called at 2026-11-27T12:00:00.000Z, in 30 s. It waits in"
        " Postgres.",
        0, "It is called.",
    ),
    "due": (
        {"now": 0.2, "queued_at": at(-60)},
        "It is due: a worker takes it in this second.",
        0, "It is called.",
    ),
    "moved once": (
        {"now": -3000, "events": (event("moved", -3500, -600, 0),)},
        "It is called at 2026-11-27T12:00:00.000Z, in 50 min. It waits in"
        " Postgres; RabbitMQ gets a message for it 1 min before. It was moved"
        " once, from 2026-11-27T11:50:00.000Z to 2026-11-27T12:00:00.000Z.",
        0, "It is called.",
    ),
    "moved twice, and changed": (
        {"now": -3000, "events": (
            event("moved", -3500, -600, -900), event("changed", -3400),
            event("changed", -3300, -900, 0),
        )},
        "It is called at 2026-11-27T12:00:00.000Z, in 50 min. It waits in"
        " Postgres; RabbitMQ gets a message for it 1 min before. It was moved"
        " twice, the last time from 2026-11-27T11:45:00.000Z to"
        " 2026-11-27T12:00:00.000Z.",
        0, "It is called.",
    ),
    "has to be called soon": (
        {"now": -30, "has_rabbitmq": False,
         "of": timer(max_lateness=timedelta(minutes=5))},
        "It is called at 2026-11-27T12:00:00.000Z, in 30 s. It waits in"
        " Postgres. If it can't be called by 2026-11-27T12:05:00.000Z, it"
        " ends as missed.",
        0, "It is called.",
    ),
    "overdue, queued": (
        {"now": 3, "queued_at": at(-60)},
        "It has been overdue since 2026-11-27T12:00:00.000Z, for 3 s. A"
        " message for it was sent to RabbitMQ at 2026-11-27T11:59:00.000Z,"
        " and no worker has taken it: others come first, or the message was"
        " lost.",
        60, "If no worker has taken it by then, another message is sent for"
        " it.",
    ),
    "overdue, queued again": (
        {"now": 33, "queued_at": at(30)},
        "It has been overdue since 2026-11-27T12:00:00.000Z, for 33 s. A"
        " message for it was sent to RabbitMQ at 2026-11-27T12:00:30.000Z,"
        " and no worker has taken it: others come first, or the message was"
        " lost.",
        35, "If no worker has taken it by then, another message is sent for"
        " it.",
    ),
    "overdue, not queued": (
        {"now": 3700, "roles": {
            "worker": Role("worker", at(3700), None),
            "dispatcher": Role("dispatcher", at(-120), None),
        }},
        "It has been overdue since 2026-11-27T12:00:00.000Z, for 1 h 1 min."
        " RabbitMQ has no message for it: the dispatcher or RabbitMQ is away,"
        " or RabbitMQ has enough messages of overdue timers. No dispatcher has"
        " been heard of since 2026-11-27T11:58:00.000Z.",
        0, "RabbitMQ gets a message for it.",
    ),
    "overdue, standalone": (
        {"now": 200_000, "roles": {}, "has_rabbitmq": False},
        "It has been overdue since 2026-11-27T12:00:00.000Z, for 2 days 7 h."
        " No worker has taken it yet. No worker is known to run.",
        0, "A worker takes it.",
    ),
    "overdue for too long": (
        {"now": 400, "has_rabbitmq": False,
         "of": timer(max_lateness=timedelta(minutes=5))},
        "It has been overdue since 2026-11-27T12:00:00.000Z, for 6 min 40 s."
        " No worker has taken it yet. `max_lateness` allowed a call until"
        " 2026-11-27T12:05:00.000Z: it ends as missed when a worker takes"
        " it.",
        0, "A worker takes it.",
    ),
    "busy": (
        {"now": 1, "has_rabbitmq": False,
         "of": timer(deferred=True, error=BUSY, next_at=at(4.5))},
        "It is put off because its host has its share of calls: 9 calls to"
        " example.com:80 are under way, its share. It is called again at"
        " 2026-11-27T12:00:04.500Z, in 4 s. It waits in Postgres.",
        4.5, "It is called again.",
    ),
    "hanging": (
        {"now": 1, "has_rabbitmq": False, "retry_until": at(900),
         "of": timer(deferred=True, error=HANGING, next_at=at(31))},
        "It is put off because its host does not answer: the last 5 calls to"
        " example.com:80 got no answer. It is tried until"
        " 2026-11-27T12:15:00.000Z; if it can't be sent by then, it ends as"
        " failed. It is called again at 2026-11-27T12:00:31.000Z, in 30 s. It"
        " waits in Postgres.",
        31, "It is called again.",
    ),
    "refused": (
        {"now": 1, "has_rabbitmq": False, "retry_until": at(900),
         "connect_failures": 1,
         "of": timer(error="refused: x", next_at=at(2), attempts=1),
         "attempts": (attempt(error="refused: nobody there"),)},
        "Attempt 1 could not be sent: refused: nobody there. It is tried"
        " until 2026-11-27T12:15:00.000Z; if it can't be sent by then, it ends"
        " as failed. It is called again at 2026-11-27T12:00:02.000Z, in 1 s."
        " It waits in Postgres.",
        2, "It is called again.",
    ),
    "503 with Retry-After": (
        {"now": 10, "has_rabbitmq": False, "retries": 1,
         "of": timer(status_code=503, next_at=at(300.5), sent_at=at(0.1),
                     attempts=1, retry=RETRY),
         "attempts": (attempt(code=503, sent=0.1),)},
        "Attempt 1 was answered 503. `retry` allows 5 calls in all; 1 was"
        " made. The wait of 5 min is longer than `retry` makes it: the"
        " receiver asked for that with Retry-After. It is called again at"
        " 2026-11-27T12:05:00.500Z, in 4 min 50 s. It waits in Postgres.",
        300.5, "It is called again.",
    ),
    "503 without": (
        {"now": 1, "has_rabbitmq": False, "retries": 1,
         "of": timer(status_code=503, next_at=at(9), sent_at=at(0.1),
                     attempts=1, retry=RETRY),
         "attempts": (attempt(code=503, sent=0.1),)},
        "Attempt 1 was answered 503. `retry` allows 5 calls in all; 1 was"
        " made. It is called again at 2026-11-27T12:00:09.000Z, in 8 s. It"
        " waits in Postgres.",
        9, "It is called again.",
    ),
    "500": (
        {"now": 10, "has_rabbitmq": False, "retries": 2,
         "of": timer(status_code=500, next_at=at(24), sent_at=at(8),
                     attempts=2, retry=RETRY),
         "attempts": (attempt(code=500, sent=0.1),
                      attempt(2, code=500, sent=8, due=8))},
        "Attempt 2 was answered 500. `retry` allows 5 calls in all; 2 were"
        " made. It is called again at 2026-11-27T12:00:24.000Z, in 14 s. It"
        " waits in Postgres.",
        24, "It is called again.",
    ),
    "503, then moved": (
        {"now": 10, "has_rabbitmq": False, "retries": 1,
         "of": timer(status_code=503, next_at=at(0), sent_at=at(-60),
                     attempts=1, retry=RETRY),
         "attempts": (attempt(code=503, sent=-60, due=-60),),
         "events": (event("moved", -50, -60, 0),)},
        "Attempt 1 was answered 503. `retry` allows 5 calls in all; 1 was"
        " made. It has been overdue since 2026-11-27T12:00:00.000Z, for 10 s."
        " No worker has taken it yet. It was moved once, from"
        " 2026-11-27T11:59:00.000Z to 2026-11-27T12:00:00.000Z.",
        0, "A worker takes it.",
    ),
    "taken over": (
        {"now": 0.5, "claims": 1, "of": timer(attempts=1),
         "attempts": (attempt(error=LOST),)},
        "Attempt 1: its worker died before the call. Its claim was ended, and"
        " another worker may take it. It is due: a worker takes it in this"
        " second.",
        0, "It is called.",
    ),
    "replayed": (
        {"now": 0.5, "replayed_at": at(0), "of": timer(attempts=1)},
        "It was replayed at 2026-11-27T12:00:00.000Z. It is due: a worker"
        " takes it in this second.",
        0, "It is called.",
    ),
    "replayed, has to be called soon": (
        {"now": 600.5, "replayed_at": at(600), "of": timer(
            attempts=1, next_at=at(600), max_lateness=timedelta(minutes=5)
        )},
        "It was replayed at 2026-11-27T12:10:00.000Z. It is due: a worker"
        " takes it in this second. If it can't be called by"
        " 2026-11-27T12:15:00.000Z, it ends as missed.",
        600, "It is called.",
    ),
    "a row that can't be read": (
        {"now": 0.5, "of": timer(error="invalid: retry is no object")},
        "It is due: a worker takes it in this second. Its row can't be used"
        " (invalid: retry is no object): it ends when a worker takes it.",
        0, "It is called.",
    ),
    "claimed": (
        {"now": 1, "of": timer(**CALLED), **CLAIM},
        "A worker claimed it at 2026-11-27T12:00:00.000Z, to call it"
        " (attempt 1). As far as is known, its request has not left. The"
        " worker has until 2026-11-27T12:00:20.000Z to report or to ask for"
        " more time.",
        20, "If the worker has not reported by then, the timer is called"
        " again at once.",
    ),
    "claimed for the sixth time": (
        {"now": 1, "of": timer(**CALLED), **CLAIM | {"claims": 6}},
        "A worker claimed it at 2026-11-27T12:00:00.000Z, to call it"
        " (attempt 1). As far as is known, its request has not left. The"
        " worker has until 2026-11-27T12:00:20.000Z to report or to ask for"
        " more time.",
        20, "If the worker has not reported by then, the timer ends as"
        " failed: it lost too many workers.",
    ),
    "sent": (
        {"now": 1, "of": timer(**CALLED, sent_at=at(0.002)), **CLAIM},
        "A worker claimed it at 2026-11-27T12:00:00.000Z, to call it"
        " (attempt 1). The request had left at 2026-11-27T12:00:00.002Z;"
        " there is no answer yet. The worker has until"
        " 2026-11-27T12:00:20.000Z to report or to ask for more time.",
        20, "If the worker has not reported by then, the timer ends as"
        " unknown: the request is not sent again.",
    ),
    "sent, at least once": (
        {"now": 1, **CLAIM,
         "of": timer(**CALLED, sent_at=at(0.002), at_least_once=True)},
        "A worker claimed it at 2026-11-27T12:00:00.000Z, to call it"
        " (attempt 1). The request had left at 2026-11-27T12:00:00.002Z;"
        " there is no answer yet. The worker has until"
        " 2026-11-27T12:00:20.000Z to report or to ask for more time.",
        20, "If the worker has not reported by then, the timer is called"
        " again at once.",
    ),
    "answered": (
        {"now": 1, **CLAIM, "answered": 200,
         "of": timer(**CALLED, sent_at=at(0.002))},
        "A worker claimed it at 2026-11-27T12:00:00.000Z, to call it"
        " (attempt 1). The receiver has answered 200; that is not recorded"
        " yet. The worker has until 2026-11-27T12:00:20.000Z to report or to"
        " ask for more time.",
        20, "If the worker has not reported by then, the answer 200 decides"
        " what follows.",
    ),
    "its worker died": (
        {"now": 25, "of": timer(**CALLED), **CLAIM},
        "A worker claimed it at 2026-11-27T12:00:00.000Z, to call it"
        " (attempt 1). As far as is known, its request has not left. Its"
        " worker had until 2026-11-27T12:00:20.000Z to report, and did not:"
        " it died or is cut off. The claim has been over for 5 s; it is ended"
        " within seconds, but not in the first 10 s after Postgres was away.",
        20, "The claim is ended: the timer is called again at once.",
    ),
    "delivered": (
        {"now": 9, "of": timer(
            **CALLED, outcome="delivered", status_code=204, sent_at=at(0.003)
        )},
        "It was delivered: its receiver answered 204. The request had left at"
        " 2026-11-27T12:00:00.003Z, 3 ms after the timer's time.",
        None, "",
    ),
    "failed, answered": (
        {"now": 9, "of": timer(
            **CALLED, outcome="failed", status_code=500, sent_at=at(0.003)
        )},
        "It failed: its receiver answered 500. Without `retry`, any answer is"
        " final. It can be replayed.",
        None, "",
    ),
    "failed, 410": (
        {"now": 9, "of": timer(
            **CALLED, outcome="failed", status_code=410, retry=RETRY
        )},
        "It failed: its receiver answered 410. With 410 a receiver says that"
        " it wants no more calls. It can be replayed.",
        None, "",
    ),
    "failed, too often": (
        {"now": 9, "retries": 4, "of": timer(
            **CALLED, outcome="failed", status_code=500, retry=RETRY
        )},
        "It failed: its receiver answered 500. `retry` allows 5 calls in all,"
        " and all were made. It can be replayed.",
        None, "",
    ),
    "failed, no time left": (
        {"now": 9, "retries": 1, "of": timer(
            **CALLED, outcome="failed", status_code=500, retry=RETRY,
            max_lateness=timedelta(seconds=9),
        )},
        "It failed: its receiver answered 500. Another attempt would have"
        " come later than `max_lateness` allows. It can be replayed.",
        None, "",
    ),
    "failed, timeout": (
        {"now": 11, "of": timer(
            **CALLED, outcome="failed", error="timeout: no answer in 10 s"
        )},
        "It failed: timeout: no answer in 10 s. The receiver may have acted on"
        " it. It can be replayed.",
        None, "",
    ),
    "failed, refused": (
        {"now": 999, "retry_until": at(900), "of": timer(
            **CALLED, outcome="failed", error="refused: nobody there"
        )},
        "It failed: refused: nobody there. It was not sent. It was to be"
        " tried until 2026-11-27T12:15:00.000Z. It can be replayed.",
        None, "",
    ),
    "failed too often to be replayed": (
        {"now": 999, "of": timer(
            fired_at=at(0), attempts=1000, outcome="failed", error=LOST
        )},
        "It failed: worker_lost: the worker died before the call. The timer"
        " may be what makes workers die; it was not sent. It was tried too"
        " often to be replayed.",
        None, "",
    ),
    "unknown": (
        {"now": 30, "of": timer(
            **CALLED, outcome="unknown", error=GONE_AFTER, sent_at=at(0.1)
        )},
        "Nobody knows what came of it. The request had left at"
        " 2026-11-27T12:00:00.100Z. No answer was recorded: the worker died"
        " after the request had left. The receiver may have acted on it, or"
        " not. It is not sent again. It can be replayed.",
        None, "",
    ),
    "missed": (
        {"now": 999, "of": timer(
            fired_at=at(990), outcome="missed", error=BUSY,
            max_lateness=timedelta(minutes=5),
        )},
        "It was missed: it could not be called in time, and was not called."
        " `max_lateness` allowed that until 2026-11-27T12:05:00.000Z. What"
        f" kept it: {BUSY}. It can be replayed.",
        None, "",
    ),
    "cancelled": (
        {"now": -30, "of": timer(outcome="cancelled"),
         "events": (event("cancelled", -60),)},
        "It was cancelled at 2026-11-27T11:59:00.000Z; it is not called.",
        None, "",
    ),
    "cancelled after an attempt": (
        {"now": 30, "of": timer(outcome="cancelled", attempts=1),
         "attempts": (attempt(code=500, sent=0),)},
        "It was cancelled; it is not called again. Attempt 1 was answered"
        " 500.",
        None, "",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_where_it_stands_and_what_comes(situation: str) -> None:
    given, summary, when, what = SITUATIONS[situation]
    found = told(**given)
    assert found.summary == summary
    if when is None:
        assert found.next is None
    else:
        assert found.next is not None
        assert (found.next.at, found.next.what) == (at(when), what)


def lines(found: Explanation) -> list[str]:
    return [
        f"{(each.at - DUE).total_seconds():g} {each.what}: {each.detail}"
        for each in found.events
    ]


def test_all_that_callers_did_is_told_in_order() -> None:
    found = told(
        now=600,
        of=timer(due_at=at(-2600), next_at=at(500), version=9),
        events=(
            event("moved", -3000, -600, 60), event("moved", -2900),
            event("changed", -2800), event("changed", -2700, 60, 0),
            event("fired", -2600, 0, -2600), event("replayed", 500),
            event("cancelled", 501), event("odd", 502),
        ),
        replayed_at=at(500),
    )
    assert lines(found) == [
        "-3600 set: It was set for 2026-11-27T11:50:00.000Z.",
        "-3000 moved: It was moved from 2026-11-27T11:50:00.000Z to"
        " 2026-11-27T12:01:00.000Z, 11 min later.",
        "-2900 moved: Its time stayed as it was.",
        "-2800 changed: What it calls was changed.",
        "-2700 changed: What it calls was changed. It was moved from"
        " 2026-11-27T12:01:00.000Z to 2026-11-27T12:00:00.000Z, 1 min"
        " earlier.",
        "-2600 fired now: A caller asked for it to be called at once, in"
        " place of 2026-11-27T12:00:00.000Z.",
        "500 replayed: It had given up, and was to be called again.",
        "501 cancelled: It was cancelled: it is not called after that.",
        "502 odd: ",
    ]


def test_all_attempts_and_the_claim_are_told_in_order() -> None:
    found = told(
        now=7300,
        of=timer(fired_at=at(7300), sent_at=at(7300.5), attempts=7),
        attempts=(
            attempt(1, error="refused: nobody there"),
            attempt(2, error=LOST, due=1),
            attempt(3, code=503, sent=7200, due=2),
            attempt(4, error="timeout: no answer", sent=7210.004, due=7210),
            attempt(5, error=GONE_AFTER, sent=7220, due=7220),
            attempt(6, error="reset: cut off", due=7230),
        ),
        **CLAIM,
    )
    assert lines(found) == [
        "-3600 set: It was set for 2026-11-27T12:00:00.000Z.",
        "0 not sent: Attempt 1 could not be sent: refused: nobody there. It"
        " took 12 ms.",
        "1 worker lost: Attempt 2: its worker died before the call.",
        "7200 answered: Attempt 3 was answered 503. It took 12 ms. The"
        " request had left 1 h 59 min after its time. It waited from"
        " 2026-11-27T12:00:02.000Z to 2026-11-27T14:00:00.000Z: the service,"
        " Postgres or RabbitMQ was down or had too much to do, or the"
        " connection took that long.",
        "7210 no answer: Attempt 4 got no answer: timeout: no answer. It took"
        " 12 ms. The request had left 4 ms after its time.",
        "7220 worker lost: Attempt 5: its worker died after the request had"
        " left. The request had left 0 ms after its time.",
        "7230 no answer: Attempt 6 got no answer: reset: cut off. It took"
        " 12 ms.",
        "7300 claimed: A worker claimed it for attempt 7.",
        "7300.5 sent: The request of attempt 7 had left.",
    ]


@pytest.mark.parametrize(
    ("asked", "tried", "since"),
    [
        ((), 0, None),
        ((), 5, 0),
        ((event("moved", -9, -60, -20),), -9, None),
        ((event("moved", -9, -60, -20),), 5, -9),
        ((event("moved", -9, -60, 0),), 5, 0),
        ((event("moved", -9),), -9, None),
        ((event("changed", 3),), 5, 3),
        ((event("fired", -9, 0, -9),), -9, None),
        ((event("replayed", 3),), 3, None),
        ((event("replayed", 30),), 5, 0),
        ((event("moved", 30, 0, 60),), 5, 0),
    ],
)
def test_that_a_first_attempt_was_put_off_is_told(
    asked: tuple[Event, ...], tried: float, since: float | None
) -> None:
    put_off = [
        line for line in lines(told(
            now=60, events=asked, attempts=(attempt(code=200, due=tried),)
        )) if "put off" in line
    ]
    assert put_off == ([] if since is None else [
        f"{since:g} put off: Its host had its share of calls, or did not"
        f" answer: it was put off until {moment(at(tried))}."
    ])


def test_a_message_is_told_while_it_waits() -> None:
    assert lines(told(now=-30, queued_at=at(-60)))[1:] == [
        "-60 queued: A message for it was sent to RabbitMQ.",
    ]


def test_of_many_changes_and_attempts_the_middle_is_left_out() -> None:
    # Given a timer with more of both than are read
    moves = tuple(
        event("moved", -3000 + each, each, each + 1)
        for each in range(2 * MOST)
    )
    tries = [attempt(n, code=500, sent=n, due=n) for n in range(1, 101)]
    tries[MOST:] = [replace(each, number=each.number + 900)
                    for each in tries[MOST:]]
    found = told(
        now=900, of=timer(version=100_001), events=moves,
        attempts=tuple(tries),
    )

    # Then the gaps are told where they are, and how often it was changed
    left_out = [
        (index, each) for index, each in enumerate(lines(found))
        if "left out" in each
    ]
    assert left_out == [
        (51, "-2951 left out: Here 99,900 more changes are left out."),
        (152, "50 left out: Here 900 more attempts are left out."),
    ]
    assert "Callers changed it 100,000 times; the last move was from" in (
        found.summary
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0 ms"), (0.0124, "12 ms"), (-3, "3 s"), (59.6, "1 min"),
        (61, "1 min 1 s"), (3600, "1 h"), (3601, "1 h"), (86_400, "1 day"),
        (200_000, "2 days 7 h"), (86_460, "1 day"),
    ],
)
def test_how_long_something_lasts(seconds: float, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said


def test_words_for_what_no_row_should_hold() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    assert later(last, timedelta(days=1)).year == 9999
    assert later(last.replace(year=1), -timedelta(days=900)).year == 1
    assert moment(last) == "9999-12-31T23:59:59.999Z"
    assert [often(n) for n in (1, 2, 3_000)] == [
        "once", "twice", "3,000 times"
    ]
