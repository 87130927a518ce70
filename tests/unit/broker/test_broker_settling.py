"""Settling messages: one wake-up of the consumer's thread for many."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pika.exceptions import ConnectionWrongStateError

from apps.broker.consumer import _Link


class Channel:
    """Stands in for pika's channel, and for its connection."""

    def __init__(self) -> None:
        self.connection = self
        self.callbacks: list[Callable[[], None]] = []
        self.is_closed = False

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        if self.is_closed:
            raise ConnectionWrongStateError
        self.callbacks.append(callback)


def test_what_is_settled_meanwhile_goes_with_one_wake_up() -> None:
    channel: Any = Channel()
    link, settled = _Link(channel), list[int]()
    for number in range(3):
        link.settle(partial(settled.append, number))
    (wake_up,) = channel.callbacks
    wake_up()
    assert settled == [0, 1, 2]

    link.settle(partial(settled.append, 3))
    _, wake_up = channel.callbacks
    wake_up()
    assert settled == [0, 1, 2, 3]


def test_what_is_settled_while_others_are_wakes_it_again() -> None:
    channel: Any = Channel()
    link, settled = _Link(channel), list[str]()

    def first() -> None:
        settled.append("first")
        link.settle(lambda: settled.append("second"))

    link.settle(first)
    for wake_up in channel.callbacks:
        wake_up()
    assert settled == ["first", "second"]


def test_nothing_is_settled_on_a_connection_that_is_gone() -> None:
    channel: Any = Channel()
    channel.is_closed = True
    link, settled = _Link(channel), list[int]()
    link.settle(lambda: settled.append(1))
    assert not channel.callbacks
    assert not settled
