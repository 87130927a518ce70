"""What keeps failing is told once a minute, and while it does to probes."""

from types import SimpleNamespace

import pytest

from apps.core import outages
from apps.core.outages import Troubles


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the time, in seconds."""
    made = SimpleNamespace(now=1000.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(outages, "time", made)
    return made


def test_a_failure_is_told_once_a_minute_for_each_name(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles()
    for _ in range(130):
        for name in ("taking over", "queueing"):
            troubles.note(name, "a step failed", ZeroDivisionError("of one"))
        clock.now += 1
    assert caplog.messages == ["a step failed"] * 6
    assert [vars(r)["what"] for r in caplog.records[:2]] == [
        "taking over", "queueing",
    ]
    assert vars(caplog.records[0])["error"] == "ZeroDivisionError: of one"
    assert caplog.records[0].exc_info


def test_what_fails_now_and_then_is_no_flood_either(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    troubles = Troubles()
    for _ in range(50):
        troubles.note("taking over", "a step failed", ValueError())
        assert troubles.recent() == ["taking over: ValueError"]
        troubles.worked("taking over")
        assert not troubles.recent()
        clock.now += 1
    assert caplog.messages == ["a step failed", "it works again"] * 5


def test_what_was_not_tried_again_is_recent_for_a_while(
    clock: SimpleNamespace,
) -> None:
    troubles = Troubles()
    troubles.note("timer 1", "a row is bad", KeyError("x"))
    clock.now += 10
    troubles.note("timer 2", "a row is bad", KeyError("y"))
    assert troubles.recent() == ["timer 1: KeyError: 'x'",
                                 "timer 2: KeyError: 'y'"]
    clock.now += 10
    assert troubles.recent() == ["timer 2: KeyError: 'y'"]

    # And nothing is kept of it in the end
    clock.now += 60
    troubles.note("timer 3", "a row is bad", KeyError("z"))
    assert list(troubles._outages) == ["timer 3"]


def test_what_others_log_is_held_for_as_long_as_they_say(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles()
    for number in range(8):
        troubles.hold(f"timer {number}", "invalid: x", seconds=70)
    clock.now += 69
    assert troubles.recent() == [
        *(f"timer {number}: invalid: x" for number in range(5)), "and 3 more",
    ]
    clock.now += 2
    assert not troubles.recent()
    troubles.hold("timer 9", "invalid: x", seconds=70)
    assert list(troubles._held) == ["timer 9"]
    assert not caplog.messages


def test_what_is_under_way_for_long_hangs(clock: SimpleNamespace) -> None:
    troubles = Troubles()
    troubles.begins("taking over")
    clock.now += 7
    assert not troubles.recent()
    clock.now += 1
    assert troubles.recent() == ["taking over: it hangs"]
    troubles.ended()
    assert not troubles.recent()
