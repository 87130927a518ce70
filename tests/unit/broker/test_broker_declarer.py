"""What another channel has declared is not declared again."""

from __future__ import annotations

from unittest import mock

from apps.broker import ladder
from apps.broker.topology import Declarer, DeclaringChannel, Refusals

ROUTE = ladder.route(30_250, "timers")


def test_rungs_that_stand_are_declared_again_only_when_forgotten() -> None:
    channel = mock.create_autospec(DeclaringChannel, instance=True)
    declarer = Declarer(channel, "classic", Refusals())

    def declared() -> list[str]:
        calls = channel.queue_declare.call_args_list
        channel.queue_declare.reset_mock()
        return [call.args[0] for call in calls]

    declarer.assume_rungs()
    declarer.route(ROUTE)
    assert declared() == ["timers.XQ", "timers"]

    # When somebody deleted them, perhaps after the other channel was done
    declarer.forget()
    declarer.assume_rungs()
    declarer.route(ROUTE)
    assert declared() == ["timers.XQ", "timers", "delay.30s", "delay.250ms"]
