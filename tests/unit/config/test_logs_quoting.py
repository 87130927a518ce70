"""What others say stays the value that it is in a line for people."""

import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.logs import TextLine

PAIR = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]*)')


def formatted(**extra: Any) -> str:
    logger = logging.getLogger("apps.timers")
    return TextLine().format(logger.makeRecord(
        "apps.timers", logging.INFO, __file__, 1, "timer failed", (), None,
        extra=extra,
    ))


def details(line: str) -> dict[str, str]:
    """Read a line's details, of which nothing may be left."""
    _, found, rest = line.partition("timer failed")
    assert found
    assert PAIR.sub("", rest) == ""
    return {
        key: json.loads(value) if value.startswith('"') else value
        for key, value in PAIR.findall(rest)
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (5, "5"),
        (1.5, "1.5"),
        (None, "None"),
        ("", ""),
        ("timers.overdue", "timers.overdue"),
        ("größer", "größer"),
        ("refused: nobody there", '"refused: nobody there"'),
        ("a=b", '"a=b"'),
        ('say "x"', r'"say \"x\""'),
        (r"a\b", r'"a\\b"'),
        ("two\nlines", r'"two\nlines"'),
        ("\x1b[2Jgone", r'"\u001b[2Jgone"'),
        ("a\x9bb\u2028c", r'"a\u009bb\u2028c"'),
        (["a"], "['a']"),
    ],
)
def test_a_value_is_quoted_only_if_it_must_be(value: Any, shown: str) -> None:
    assert formatted(error=value).endswith(f" timer failed error={shown}")


def test_an_error_cannot_forge_a_status() -> None:
    error = 'protocol: x status=200 error="'
    line = formatted(status=500, error=error)
    assert details(line) == {"status": "500", "error": error}


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("a =\"\\"))
def test_every_value_can_be_read_again(error: str, answer: str) -> None:
    line = formatted(error=error, answer=answer)
    assert details(line) == {"error": error, "answer": answer}
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
