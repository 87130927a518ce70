"""What we rely on in Python without its documentation promising it.

docs/decisions/0014-private-behaviour.md lists it. Each test says what has
changed, and what of ours rests on it.
"""

from __future__ import annotations

import json.encoder
import logging
import multiprocessing
import os
import threading
from multiprocessing.util import Finalize

import pytest

from config.logs import Lines, TextLine


def sentence(text: str) -> str:
    """Return what to say, and where to read on."""
    return f"{text} See docs/decisions/0014-private-behaviour.md."


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> logging.Logger:
    """Return a logger whose only handler writes our lines."""
    logger = logging.Logger("lines")
    handler = Lines()
    handler.setFormatter(TextLine())
    logger.addHandler(handler)
    return logger


def test_a_line_is_written_without_the_handlers_lock(
    lines: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    (handler,) = lines.handlers
    handler.acquire()
    try:
        writer = threading.Thread(target=lines.warning, args=("written",))
        writer.start()
        writer.join(5)
        assert not writer.is_alive(), sentence(
            "A line waits for its handler's lock: logging.Logger no longer "
            "hands records to Handler.handle(), which config/logs.py "
            "overrides."
        )
    finally:
        handler.release()
    assert capfd.readouterr().err.endswith("WARNING written\n")


def test_filters_drop_and_replace_records(
    lines: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    (handler,) = lines.handlers
    handler.addFilter(lambda record: record.msg != "dropped")
    lines.warning("dropped")
    lines.warning("kept")
    assert capfd.readouterr().err.endswith("WARNING kept\n")
    other = logging.makeLogRecord({"msg": "replaced", "levelname": "INFO"})
    replacing: object = handler.filter(other)
    # Since Python 3.12 a filter may return another record.
    assert isinstance(replacing, (bool, logging.LogRecord)), sentence(
        "logging.Handler.filter() returns neither a bool nor a record."
    )


def _end_with_a_finalizer(descriptor: int) -> None:
    Finalize(None, os.write, args=(descriptor, b"finalized"), exitpriority=10)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_runs_its_finalizers() -> None:
    reading, writing = os.pipe()
    child = multiprocessing.get_context("fork").Process(
        target=_end_with_a_finalizer, args=(writing,)
    )
    child.start()
    child.join(10)
    os.close(writing)
    written = os.read(reading, 100)
    os.close(reading)
    assert written == b"finalized", sentence(
        "The end of a forked process does not run multiprocessing.util's "
        "Finalize any more: web processes of Granian end without publishing "
        "what waits (apps/timers/scheduling/publishing.py)."
    )


def test_json_strings_are_written_by_a_function_of_their_own() -> None:
    encode = getattr(json.encoder, "encode_basestring", None)
    assert encode is not None, sentence(
        "json.encoder has no encode_basestring() any more, which "
        "apps/webhooks/jsontext.py writes strings with."
    )
    assert encode('ä"\\\n\x00') == '"ä\\"\\\\\\n\\u0000"'
