"""The standalone shape as real processes: web and worker, no RabbitMQ."""

import pytest

from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually


@pytest.mark.quiet
def test_a_timer_fires_on_time_and_once(
    standalone: Service, receiver: Receiver
) -> None:
    # Given a timer that is due in a second
    timer_id = standalone.set_timer(1, receiver.url("/hook?a=%2f"))

    # When its call has arrived and is recorded
    eventually(lambda: standalone.timer(timer_id)["status"] == "delivered")

    # Then it came once, on time, and says which timer it is
    (call,) = receiver.calls
    assert 0 <= call.late < 0.5
    assert call.path == "/hook?a=%2f"
    assert call.headers["webhook-id"] == call.payload["id"] == timer_id


def test_what_failed_is_called_once_more_when_it_is_replayed(
    standalone: Service, receiver: Receiver
) -> None:
    # Given a timer that failed
    receiver.status = 500
    timer_id = standalone.set_timer(0, receiver.url())
    eventually(lambda: standalone.timer(timer_id)["status"] == "failed")

    # When its receiver is mended, and it is replayed
    receiver.status = 200
    status, answer = standalone.request(
        "POST", "/timers/replay", {"host": receiver.url("")[len("http://"):]}
    )
    assert (status, answer["replayed"]) == (202, 1)

    # Then it is delivered by one more call
    eventually(lambda: standalone.timer(timer_id)["status"] == "delivered")
    assert receiver.counts() == {timer_id: 2}
