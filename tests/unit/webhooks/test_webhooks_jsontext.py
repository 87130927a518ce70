"""JSON that says the same after it was read and written again."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.webhooks import jsontext
from tests.support.jsonvalues import JSON

UNCHANGED = [
    "0", "-1", "9007199254740993", "-9223372036854775809",
    "123456789012345678", "1234567890123456789", "9" * 5000, "-0", "-0.0",
    "1.0", "1.10", "1e400", "-1E+400", "1e-400", "0.1234567890123456789",
    "1E5", "null", "true", "false", "[]", "{}", '""', '"/"', '"\\u0000"',
    '"\\n\\t\\\\\\""', '{"b":1,"a":[1.50,{"":null}]}', '"\x7f\u2028é😀"',
    '[[[1,2],[]],"x"]',
]  # fmt: skip


@pytest.mark.parametrize("text", UNCHANGED, ids=lambda text: text[:20])
def test_what_is_compact_stays_as_it_is(text: str) -> None:
    assert jsontext.dumps(jsontext.loads(text.encode())) == text


@pytest.mark.parametrize(
    ("text", "compact"),
    [
        (' [ 1 ,\n"a b"\t]\r\n', '[1,"a b"]'),
        ('{ "a" : 1.0 }', '{"a":1.0}'),
        ('"\\u00e9\\ud83d\\ude00\\/\\u0041"', '"é😀/A"'),
        ('"\\u000A\\u001F"', '"\\n\\u001f"'),
    ],
)
def test_only_space_and_escapes_are_saved(text: str, compact: str) -> None:
    assert jsontext.dumps(jsontext.loads(text.encode())) == compact


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
def test_any_value_is_what_it_was(
    value: Any, escaped: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    again = jsontext.dumps(jsontext.loads(text.encode()))
    # repr() tells 1 from 1.0 and True, and 0.0 from -0.0.
    assert repr(json.loads(again)) == repr(value)
    assert len(again.encode()) <= len(text.encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'"\xff"', "UTF-8"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "Infinity"),
        (b'{"a":1,"\\u0061":2}', "twice"),
        (b"[" * 100_000, "deeply"),
        (b"01", "Extra data"),
        (b"1.", "Extra data"),
    ],
)
def test_what_is_not_json_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(jsontext.NotJSON, match=reason):
        jsontext.loads(data)
