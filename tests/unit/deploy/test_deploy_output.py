"""Lines of many processes on one stream."""

import io
import json
import os
from typing import BinaryIO

from hypothesis import given
from hypothesis import strategies as st

from deploy.local.output import Output


def copied(data: bytes, *, as_json: bool) -> bytes:
    """Return what comes out when a process writes `data` and ends."""
    stream = io.BytesIO()
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    source: BinaryIO = os.fdopen(reading, "rb")
    Output(stream, as_json=as_json).follow("web", source).join(5)
    return stream.getvalue()


def test_a_line_carries_its_process() -> None:
    shown = copied(b"one\ntwo", as_json=False)
    assert shown == b"web        | one\nweb        | two\n"


def test_json_lines_stay_as_they_are() -> None:
    line = b'{"message": "timer fired", "timer": "1"}\n'
    assert copied(line, as_json=True) == line


@given(st.binary(max_size=200))
def test_with_json_every_line_is_json_or_passed_on(data: bytes) -> None:
    shown = copied(data, as_json=True).split(b"\n")[:-1]
    written = data.split(b"\n")
    if not written[-1]:
        written.pop()
    assert len(shown) == len(written)
    for ours, theirs in zip(shown, written, strict=True):
        if ours != theirs:
            assert json.loads(ours)["process"] == "web"


def test_our_own_lines_are_json_too() -> None:
    stream = io.BytesIO()
    Output(stream, as_json=True).show("one\ntwo")
    messages = [
        json.loads(line)["message"]
        for line in stream.getvalue().splitlines()
    ]
    assert messages == ["one", "two"]


def test_a_terminal_that_is_gone_stalls_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = Output(os.fdopen(writing, "wb", 0), as_json=False)
    output.say("lost")
    output.say("lost as well")
