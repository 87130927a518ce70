"""Log lines, for people and for machines."""

import json
import logging
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.logs import JsonLine, TextLine

TIMER = UUID(int=7)


def record(message: str, **extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("apps.timers")
    return logger.makeRecord(
        "apps.timers", logging.WARNING, __file__, 1, message, (), None,
        extra=extra,
    )


def failure() -> logging.LogRecord:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        found = record("it failed", timer=TIMER)
        found.exc_info = sys.exc_info()
        return found


def test_a_line_for_people() -> None:
    line = TextLine().format(record("timer set", timer=TIMER, seconds=5))
    time, rest = line.split(" ", 1)
    assert rest == f"WARNING timer set timer={TIMER} seconds=5"
    assert time.endswith("Z")
    assert datetime.fromisoformat(time).utcoffset() is not None


def test_a_line_for_machines() -> None:
    line = JsonLine().format(record("timer set", timer=TIMER, seconds=5))
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("time")).year > 2020
    assert found == {
        "level": "WARNING", "logger": "apps.timers", "message": "timer set",
        "timer": str(TIMER), "seconds": 5,
    }


@given(st.text(), st.text())
def test_what_others_say_cannot_begin_a_line(message: str, error: str) -> None:
    found = record(message.replace("%", ""), error=error)
    for formatter in (TextLine(), JsonLine()):
        line = formatter.format(found)
        assert "\n" not in line
        assert "\r" not in line
    assert json.loads(line)["error"] == error


def test_a_traceback_follows_or_is_part_of_the_object() -> None:
    text = TextLine().format(failure())
    assert text.splitlines()[0].endswith(f"it failed timer={TIMER}")
    assert text.endswith("ValueError: two\nlines")

    line = JsonLine().format(failure())
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: two\nlines")


@pytest.mark.parametrize("formatter", [TextLine(), JsonLine()])
def test_arguments_are_filled_in(formatter: logging.Formatter) -> None:
    found = record("%s of %d")
    found.args = ("one", 2)
    assert "one of 2" in formatter.format(found)
