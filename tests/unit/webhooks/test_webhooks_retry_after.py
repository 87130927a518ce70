"""What a receiver's Retry-After says, and what a stored policy does."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.webhooks.retry import RetryPolicy, retry_after_seconds

_NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
_WORDS = st.sampled_from(
    ["Fri,", "31", "Dec", "99999999999", "0", "23:59:59", "GMT", "-9999",
     "+99999999999", ":", "-", "(", "AM", "1.1.1"]
)


@given(st.text() | st.lists(_WORDS).map(" ".join))
def test_any_text_is_a_number_of_seconds_or_none(text: str) -> None:
    found = retry_after_seconds(text, _NOW)
    assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120),
        ("9" * 5000, 999_999_999),
        ("-1", None),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 99999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -9999", None),
        ("soon", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, _NOW) == seconds


_POLICY: dict[str, Any] = {
    "max_attempts": 3, "min_delay": 1, "max_delay": 60, "unanswered": False
}


def test_a_stored_policy_is_read() -> None:
    assert RetryPolicy.read(_POLICY) == RetryPolicy(3, 1, 60, False)


@pytest.mark.parametrize(
    "value",
    [
        {"x": 1}, [1], "text", 7, _POLICY | {"x": 1},
        _POLICY | {"max_attempts": "3"}, _POLICY | {"min_delay": 1.5},
        _POLICY | {"max_delay": -1}, _POLICY | {"max_delay": 10**10},
        _POLICY | {"max_attempts": True}, _POLICY | {"unanswered": 0},
        {key: value for key, value in _POLICY.items() if key != "unanswered"},
    ],
)
def test_anything_else_is_no_policy(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^retry"):
        RetryPolicy.read(value)
