"""An outage is told once, whoever runs into it."""

import pytest

from apps.core.outages import Outage


def test_an_outage_is_one_line_and_its_end_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outage = Outage("it is away", "it is back")
    outage.worked()
    assert not caplog.messages

    for _ in range(2):
        outage.failed(error="refused")
        outage.failed(count=3, error="refused again")
        outage.worked()
        outage.worked()

    assert caplog.messages == ["it is away", "it is back"] * 2
    first, last = caplog.records[2:]
    assert vars(first)["error"] == "refused"
    assert vars(last)["failures"] == 4
    assert vars(last)["after_s"] >= 0
