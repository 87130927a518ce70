"""A warning that may be due many times a second is logged now and then."""

import logging
from typing import Any

import pytest

from apps.core import repeated as module
from apps.core.repeated import Repeated

logger = logging.getLogger(__name__)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, int]]:
    return [
        (vars(record)["why"], vars(record)["count"])
        for record in caplog.records
    ]


def note(repeated: Repeated, why: str, times: int = 1) -> None:
    for _ in range(times):
        repeated.note(why, why=why)


def test_one_line_a_minute_says_how_often(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    repeated = Repeated(logger, "it is away")
    note(repeated, "down", 5000)
    clock.now += 59
    note(repeated, "down")
    assert lines(caplog) == [("down", 1)]
    clock.now += 2
    note(repeated, "down", 5000)
    assert lines(caplog) == [("down", 1), ("down", 5001)]


def test_a_new_reason_is_logged_at_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    repeated = Repeated(logger, "it is away")
    for _ in range(10):
        note(repeated, "refused", 3)
        note(repeated, "timed out")
        clock.now += 1
    assert lines(caplog) == [("refused", 1), ("timed out", 3)]
    clock.now += 60
    note(repeated, "refused")
    assert lines(caplog)[2:] == [("refused", 37)]


def test_a_number_makes_no_new_reason(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    repeated = Repeated(logger, "it is away")
    for port in range(100):
        note(repeated, f"<socket at 0xff{port:02x}> on port {50000 + port}")
    assert len(caplog.records) == 1


def test_reasons_without_end_do_not_fill_the_log(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    repeated = Repeated(logger, "it is away")
    for index in range(100):
        note(repeated, "x" * (index + 1))
    assert len(caplog.records) == Repeated.REASONS
    clock.now += 61
    note(repeated, "y")
    assert lines(caplog)[-1] == ("y", 91)


def test_after_its_end_it_is_logged_at_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    repeated = Repeated(logger, "it is away")
    assert not repeated.ended()
    note(repeated, "down", 3)
    assert repeated.ended()
    assert not repeated.ended()
    note(repeated, "down")
    assert lines(caplog) == [("down", 1), ("down", 1)]
