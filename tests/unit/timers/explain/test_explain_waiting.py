"""A timer that waits, in sentences: the whole text for each situation."""

from datetime import timedelta

import pytest

from apps.timers.storage.explaining import Role
from apps.timers.storage.holding import Hold
from tests.support.explaining import (
    BUSY,
    Situation,
    at,
    attempt,
    check,
    event,
    timer,
)

SITUATIONS: dict[str, Situation] = {
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
        " 2026-11-27T12:00:04.500Z, in 4 s. RabbitMQ has no message for it"
        " yet.",
        4.5, "It is called again.",
    ),
    "just tried": (
        {"now": 1, "connect_failures": 1, "retry_until": at(900),
         "of": timer(error="refused: x", next_at=at(2), attempts=1),
         "attempts": (attempt(error="refused: nobody there"),), "roles": {
             "dispatcher": Role("dispatcher", at(0), "its thread hangs"),
         }},
        "Attempt 1 could not be sent: refused: nobody there. It is tried"
        " until 2026-11-27T12:15:00.000Z; if it can't be sent by then, it ends"
        " as failed. It is called again at 2026-11-27T12:00:02.000Z, in 1 s."
        " RabbitMQ has no message for it yet. A dispatcher reports: its thread"
        " hangs.",
        2, "It is called again.",
    ),
    "just answered": (
        {"now": 1, "retries": 1,
         "of": timer(status_code=500, next_at=at(9), sent_at=at(0.1),
                     attempts=1),
         "attempts": (attempt(code=500, sent=0.1),)},
        "Attempt 1 was answered 500. It is called again at"
        " 2026-11-27T12:00:09.000Z, in 8 s. RabbitMQ gets a message for it in"
        " this second.",
        9, "It is called again.",
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
    "held, its time is to come": (
        {"now": -30, "hold": Hold(at(-90), None)},
        "It is to be called at 2026-11-27T12:00:00.000Z. The operator has held"
        " all calls since 2026-11-27T11:58:30.000Z.",
        0, "It is called, unless calls are held then.",
    ),
    "held, overdue": (
        {"now": 90, "hold": Hold(at(-90), "restored"), "connect_failures": 1,
         "of": timer(error="refused: x", next_at=at(2), attempts=1),
         "attempts": (attempt(error="refused: nobody there"),)},
        "Attempt 1 could not be sent: refused: nobody there. Its time was"
        " 2026-11-27T12:00:02.000Z, 1 min 28 s ago. The operator has held all"
        " calls since 2026-11-27T11:58:30.000Z (restored).",
        2, "It is called again soon after the hold.",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_timer_that_waits(situation: str) -> None:
    check(SITUATIONS[situation])
