"""Settling messages: one wake-up of the consumer's thread for many."""

from collections.abc import Callable
from typing import Any

from pika.exceptions import ConnectionWrongStateError

from apps.broker.consumer import _Link


class Channel:
    """Stands in for pika's channel, what is behind it, and its connection."""

    def __init__(self) -> None:
        self.connection = self._impl = self
        self.callbacks: list[Callable[[], None]] = []
        self.is_closed = False
        self.sent: list[tuple[str, int]] = []
        self.on_ack: Callable[[], None] = lambda: None

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        if self.is_closed:
            raise ConnectionWrongStateError
        self.callbacks.append(callback)

    def basic_ack(self, tag: int) -> None:
        self.sent.append(("ack", tag))
        self.on_ack()

    def basic_nack(self, tag: int, *, requeue: bool) -> None:
        assert not requeue
        self.sent.append(("nack", tag))


def test_what_is_settled_meanwhile_goes_with_one_wake_up() -> None:
    channel: Any = Channel()
    link = _Link(channel)
    link.settle(1, accepted=True)
    link.settle(3, accepted=False)
    link.settle(2, accepted=True)
    (wake_up,) = channel.callbacks
    wake_up()
    assert channel.sent == [("ack", 1), ("nack", 3), ("ack", 2)]

    link.settle(4, accepted=True)
    _, wake_up = channel.callbacks
    wake_up()
    assert channel.sent[3:] == [("ack", 4)]


def test_what_is_settled_while_others_are_wakes_it_again() -> None:
    channel: Any = Channel()
    link = _Link(channel)

    def settle_another() -> None:
        channel.on_ack = lambda: None
        link.settle(2, accepted=True)

    channel.on_ack = settle_another
    link.settle(1, accepted=True)
    for wake_up in channel.callbacks:
        wake_up()
    assert channel.sent == [("ack", 1), ("ack", 2)]


def test_nothing_is_settled_on_a_connection_that_is_gone() -> None:
    channel: Any = Channel()
    channel.is_closed = True
    _Link(channel).settle(1, accepted=True)
    assert not channel.callbacks
    assert not channel.sent
