"""A timer that is being called, or has ended: the whole text."""

from datetime import timedelta

import pytest

from tests.support.explaining import (
    BUSY,
    CALLED,
    CLAIM,
    GONE_AFTER,
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
def test_a_timer_that_is_called_or_has_ended(situation: str) -> None:
    check(SITUATIONS[situation])
