"""An outage is told now and then, whoever runs into it."""

from types import SimpleNamespace

import pytest

from apps.core import outages
from apps.core.outages import Outage, describe


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the time, in seconds."""
    made = SimpleNamespace(now=1000.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(outages, "time", made)
    return made


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["error"] for record in caplog.records]


def test_an_outage_is_one_line_and_its_end_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outage = Outage("it is away", "it is back", what="it")
    outage.worked()
    assert not caplog.messages

    for _ in range(2):
        outage.failed(error="refused", of=1)
        outage.failed("refused", count=3, of=2)
        assert outage.lasts()
        outage.worked()
        outage.worked()
        assert not outage.lasts()

    assert caplog.messages == ["it is away", "it is back"] * 2
    assert {vars(record)["what"] for record in caplog.records} == {"it"}
    first, last = caplog.records[2:]
    assert (vars(first)["error"], vars(first)["of"]) == ("refused", 1)
    assert first.levelname == "WARNING"
    assert not first.exc_info
    assert vars(last)["failures"] == 4
    assert vars(last)["after_s"] >= 0


def test_an_outage_that_lasts_is_told_once_a_minute(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("away", "back")
    for _ in range(130):
        outage.failed(error=f"at {clock.now}")
        clock.now += 1
    assert caplog.messages == ["away"] * 3
    assert errors(caplog)[-1] == "at 1120.0"
    assert vars(caplog.records[-1])["failures"] == 121


def test_another_error_is_told_at_once(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("away", "back")
    for _ in range(10):
        for _ in range(3):
            outage.failed("refused")
        outage.failed("timed out")
        clock.now += 1
    assert errors(caplog) == ["refused", "timed out"]
    clock.now += 50
    outage.failed("refused")
    assert errors(caplog) == ["refused", "timed out", "refused"]
    assert vars(caplog.records[-1])["failures"] == 41


def test_a_number_makes_no_other_error(
    caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("away", "back")
    for port in range(100):
        outage.failed(f"<socket at 0xff{port:02x}> on port {50000 + port}")
    assert len(caplog.records) == 1


def test_neither_errors_without_end_nor_ups_and_downs_fill_the_log(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    for outage in (Outage("away"), Outage("away", "back")):
        caplog.clear()
        for index in range(100):
            outage.failed("x" * (index + 1))
        assert caplog.messages == ["away"] * 5
        clock.now += 60
        outage.failed("y")
        assert errors(caplog)[-1] == "y"

    caplog.set_level("INFO")
    clock.now += 60
    caplog.clear()
    for _ in range(50):
        outage.failed("x")
        outage.worked()
        clock.now += 1
    assert caplog.messages == ["away", "back"] * 5


def test_after_a_minute_without_a_failure_it_begins_anew(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("early")
    for _ in range(2):
        for _ in range(3):
            outage.failed()
        clock.now += 60
    assert caplog.messages == ["early"] * 2
    assert all(
        "failures" not in vars(r) and "error" not in vars(r)
        for r in caplog.records
    )


def test_an_exception_is_told_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Outage("it fails").failed(ZeroDivisionError("of one"))
    assert errors(caplog) == ["ZeroDivisionError: of one"]
    assert caplog.records[0].levelname == "ERROR"
    assert caplog.records[0].exc_info


def test_an_error_is_described_in_one_short_line() -> None:
    assert describe(ValueError("one\nDETAIL: two")) == "ValueError: one"
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("one at character 14")) == "ValueError: one"
    assert len(describe(ValueError("x" * 1000))) == 200
