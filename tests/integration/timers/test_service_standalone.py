"""The standalone shape as real processes: web and worker, no RabbitMQ."""

from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually


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
