"""Why a timer waits that was claimed before: the whole text."""

from datetime import timedelta

import pytest

from tests.support.explaining import (
    BUSY,
    HANGING,
    LOST,
    RETRY,
    Situation,
    at,
    attempt,
    check,
    event,
    timer,
)

SITUATIONS: dict[str, Situation] = {
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
        " receiver has probably asked for that with Retry-After. It is called"
        " again at 2026-11-27T12:05:00.500Z, in 4 min 50 s. It waits in"
        " Postgres.",
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
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_why_a_timer_waits(situation: str) -> None:
    check(SITUATIONS[situation])
