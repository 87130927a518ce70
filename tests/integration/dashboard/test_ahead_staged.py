"""A herd is staged, and is about as late as the page Ahead has said."""

from collections.abc import Callable

import pytest
from pytest_django import Settings

from apps.dashboard import ahead
from tests.support.accounts import OWNER
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.timers import store_timers, unended, value_of
from tests.support.waiting import at_best, eventually

pytestmark = pytest.mark.quiet


def test_a_herd_is_as_late_as_was_said(
    make_service: Callable[..., Service],
    receiver: Receiver,
    settings: Settings,
) -> None:
    # Given a host that takes 1.2 s, as its first calls have shown
    settings.RABBITMQ_URL = ""
    service = make_service()
    service.start_worker(threads=64, processes=1)
    receiver.delay = 1.2
    known = store_timers(receiver.url(), [0.0] * 6)
    eventually(lambda: not unended(known), within=20)

    # When more timers are due at once than can be called at once
    def error() -> float:
        timers = store_timers(receiver.url(), [2.0] * 75)
        ahead.fresh.forget()
        (said,) = ahead.fresh(OWNER).herds
        assert (said.herd.count, said.at_once) == (75, 25)
        assert said.late is not None
        eventually(lambda: not unended(timers), within=30)
        measured = float(
            value_of(
                "SELECT max(extract(epoch FROM sent_at - due_at)) FROM timer"
                " WHERE date_trunc('second', due_at) = %s", said.herd.at,
            )
        )
        return abs(said.late / measured - 1)

    # Then the last one leaves about when the page has said
    at_best(error, under=0.25)
