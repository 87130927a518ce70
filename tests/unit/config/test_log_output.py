"""What a log leaves out, and how its lines are written."""

import logging
import os
import subprocess
import sys

import pytest

from config.logs import Seldom, not_503


def record(created: float = 0.0, **details: object) -> logging.LogRecord:
    return logging.makeLogRecord({"created": created, **details})


def test_one_record_a_minute_passes() -> None:
    seldom = Seldom()
    times = [5.0, 5.0, 64.9, 65.0, 66.0, 124.9, 125.0]
    passed = [time for time in times if seldom.filter(record(time))]
    assert passed == [5.0, 65.0, 125.0]


@pytest.mark.parametrize(
    ("details", "logged"),
    [({"status_code": 503}, False), ({"status_code": 500}, True), ({}, True)],
)
def test_a_503_has_no_line_of_its_own(
    details: dict[str, int], logged: bool
) -> None:
    assert not_503(record(**details)) is logged


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("", ["apps info", "urllib3 warning"]),
        ("debug", ["apps debug", "apps info", "urllib3 warning"]),
        ("warning", ["urllib3 warning"]),
    ],
)
def test_debug_is_for_what_is_told_of_timers_alone(
    level: str, told: list[str]
) -> None:
    script = """
import django, logging
django.setup()
logging.getLogger("apps.timers").debug("apps debug")
logging.getLogger("apps.timers").info("apps info")
logging.getLogger("urllib3").debug("urllib3 debug")
logging.getLogger("urllib3").warning("urllib3 warning")
"""
    environ = {
        **os.environ, "LOG_LEVEL": level,
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ, stderr=subprocess.PIPE, text=True, check=True,
    )
    lines = [line.split(" ", 2)[2] for line in done.stderr.splitlines()]
    assert lines == told


def test_threads_that_log_at_once_write_whole_lines() -> None:
    script = """
import logging, threading
from config.logs import Lines
logger = logging.getLogger("apps.timers")
logger.addHandler(Lines())
def log(name):
    for n in range(500):
        logger.warning(f"{name}{n} " + name * 300)
threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE, text=True, check=True,
    )
    assert sorted(done.stderr.splitlines()) == sorted(
        f"{name}{n} " + name * 300 for name in "abcd" for n in range(500)
    )
