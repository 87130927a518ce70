"""The service beside bad rows, or a backlog: all others fire, on time."""

from uuid import UUID

import pytest
from django.db import transaction

from tests.support.poison import POISONS
from tests.support.receiver import Receiver
from tests.support.rows import new_timer
from tests.support.service import Service
from tests.support.timers import (
    each_called_once,
    execute,
    late_ms,
    store_timers,
    unended,
    value_of,
)
from tests.support.waiting import at_best, eventually

pytestmark = pytest.mark.quiet  # it measures how late timers are

#: Rows that no claim is ever asked for: one that is due never, and one that
#: can't be taken over.
_OTHERS = {
    "never due": "next_at = 'infinity', due_at = 'infinity'",
    "lost": (
        "attempts = 2147483647, claims = 1, fired_at = now(),"
        " claim_token = gen_random_uuid(),"
        " leased_until = now() - interval '1 s'"
    ),
}


def poison(seconds: float, url: str) -> dict[UUID, str]:
    """Store one timer of each bad kind, due in so many seconds."""
    spoiling = {name: sql for name, (sql, _) in POISONS.items()} | _OTHERS
    made = {}
    for name, assignments in spoiling.items():
        # Nobody may see it before it is bad.
        timer_id = new_timer(86_400, url=url)
        with transaction.atomic():
            execute(
                "UPDATE timer SET due_at = now() + %s * interval '1 s',"
                " next_at = now() + %s * interval '1 s' WHERE id = %s",
                seconds, seconds, timer_id,
            )
            execute(f"UPDATE timer SET {assignments} WHERE id = %s", timer_id)
        made[timer_id] = name
    return made


def left(bad: dict[UUID, str]) -> set[str]:
    """Return the kinds of bad rows that have not failed with a reason."""
    ended = (
        "SELECT outcome = 'failed' AND error LIKE 'invalid: _%%'"
        " FROM timer WHERE id = %s"
    )
    return {bad[each] for each in bad if not value_of(ended, each)}


def test_bad_rows_cost_only_themselves(
    service: Service, receiver: Receiver
) -> None:
    bad = {}

    def lateness() -> float:
        # Given bad rows of many kinds, overdue and near, among 200 timers
        for seconds in (-5, 2):
            bad.update(poison(seconds, receiver.url("/bad")))
        good = store_timers(
            receiver.url(), [2 + index / 200 for index in range(200)]
        )
        each_called_once(receiver, good, within=30)
        late = late_ms(receiver, good)
        assert late[198] < 3_000
        return late[100]

    # Then each of the 200 is called once, and on time
    at_best(lateness, under=1_000)

    # And each bad one has failed with a reason, and was never called
    eventually(lambda: not left(bad), within=40, what=lambda: left(bad))
    assert {call.path for call in receiver.calls} == {"/hook"}

    # And the API shows it
    for timer_id in bad:
        assert service.timer(str(timer_id))["status"] == "failed"
    assert execute("SELECT FROM timer WHERE outcome IS NULL") == 0


def test_a_backlog_does_not_delay_what_is_on_time(
    service: Service, receiver: Receiver
) -> None:
    def lateness() -> float:
        # Given a backlog whose calls take their time, and 16 threads
        receiver.calls.clear()
        receiver.delay = 0.2
        backlog = store_timers(receiver.url("/overdue"), [-5.0] * 160)
        eventually(lambda: receiver.calls)

        # When timers come due meanwhile
        on_time = service.set_timers(10, 1, receiver.url())

        # Then they are on time
        each_called_once(receiver, on_time, within=5)
        assert unended(backlog)
        receiver.delay = 0
        each_called_once(receiver, backlog, within=30)
        return late_ms(receiver, on_time)[-1]

    at_best(lateness, under=1000)
