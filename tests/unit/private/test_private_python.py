"""What we rely on in Python without its documentation promising it.

docs/decisions/0014-private-behaviour.md lists it. Each test says what has
changed, and what of ours rests on it.
"""

from __future__ import annotations

import http.client
import json.encoder
import logging
import multiprocessing
import os
import socket
import threading
import time
from multiprocessing.util import Finalize
from typing import BinaryIO, Literal

import pytest

from apps.webhooks.connection import _Answer
from apps.webhooks.exchange import Exchange, current
from apps.webhooks.sockets import DeadlineSocket
from apps.webhooks.target import parse_target
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


class _Canned:
    """A socket with an answer in it."""

    def __init__(self, answer: bytes) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(answer)

    def makefile(self, mode: Literal["rb"]) -> BinaryIO:
        with self._ours:
            return self._ours.makefile(mode)


def test_any_1xx_answer_is_passed_over() -> None:
    canned = _Canned(
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\n\r\n"
    )
    answer = _Answer(canned)  # type: ignore[arg-type]
    answer.begin()
    status = answer.status
    answer.close()
    assert status == 204, sentence(
        "http.client.HTTPResponse.begin() does not read status lines with "
        "_read_status() any more, which apps/webhooks/connection.py "
        "overrides: a receiver that sends 103 is taken for one that answers "
        "103."
    )


def test_an_answer_is_received_by_recv_into() -> None:
    target = parse_target("http://127.0.0.1:1/")
    exchange = Exchange(target, time.monotonic() + 5, None, None)
    token = current.set(exchange)
    ours, theirs = socket.socketpair()
    sock = DeadlineSocket(fileno=ours.detach())
    try:
        theirs.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        answer.close()
    finally:
        current.reset(token)
        sock.close()
        theirs.close()
    assert exchange.received > 0, sentence(
        "socket.makefile() does not receive with recv_into() any more, which "
        "apps/webhooks/sockets.py overrides: no call keeps to its deadline."
    )


def test_a_tunnel_is_made_by_a_method_of_its_own() -> None:
    assert callable(getattr(http.client.HTTPConnection, "_tunnel", None)), (
        sentence(
            "http.client.HTTPConnection has no _tunnel() any more, which "
            "apps/webhooks/connection.py overrides to tell what a proxy "
            "refuses."
        )
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
        "what waits (apps/timers/publishing.py)."
    )


def test_json_strings_are_written_by_a_function_of_their_own() -> None:
    encode = getattr(json.encoder, "encode_basestring", None)
    assert encode is not None, sentence(
        "json.encoder has no encode_basestring() any more, which "
        "apps/webhooks/jsontext.py writes strings with."
    )
    assert encode('ä"\\\n\x00') == '"ä\\"\\\\\\n\\u0000"'
