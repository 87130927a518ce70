"""One stream for the lines of every process, in the form LOG_FORMAT asks."""

import json
import sys
import threading
import time
from collections.abc import Iterable
from typing import BinaryIO

WIDTH = 10
OWN_NAME = "supervisor"


class Output:
    """Writes whole lines, each with the name of the process it came from.

    With `as_json`, every line is a JSON object: lines that are objects pass
    unchanged, others are wrapped. Once the stream is closed, lines are
    dropped, so that no process stalls on a terminal that has gone.
    """

    def __init__(self, stream: BinaryIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._lock = threading.Lock()

    def say(self, message: str) -> None:
        """Write what the supervisor itself has to say, line by line."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        for line in message.splitlines():
            if self._as_json:
                record = {"time": now, "process": OWN_NAME, "message": line}
                self._write(json.dumps(record).encode() + b"\n")
            else:
                self._write(_label(OWN_NAME) + _encoded(f"{now} {line}\n"))

    def show(self, text: str) -> None:
        """Write `text` for a person to read and copy: without a label."""
        if self._as_json:
            self.say(text)
        else:
            self._write(_encoded(text) + b"\n")

    def forward(self, name: str, lines: Iterable[bytes]) -> None:
        """Write lines (without their ends) that the process `name` wrote."""
        if self._as_json:
            shaped = [_as_object(name, line) for line in lines]
        else:
            label = _label(name)
            shaped = [label + line for line in lines]
        if shaped:
            self._write(b"\n".join(shaped) + b"\n")

    def follow(self, name: str, source: BinaryIO) -> threading.Thread:
        """Forward `source` from a thread of its own until its end."""
        thread = threading.Thread(
            target=self._copy, args=(name, source), daemon=True
        )
        thread.start()
        return thread

    def _copy(self, name: str, source: BinaryIO) -> None:
        rest = b""
        with source:
            while chunk := source.read1(65536):  # type: ignore[attr-defined]
                *lines, rest = (rest + chunk).split(b"\n")
                self.forward(name, lines)
        if rest:
            self.forward(name, [rest])

    def _write(self, data: bytes) -> None:
        with self._lock:
            try:
                self._stream.write(data)
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = open("/dev/null", "wb")  # noqa: SIM115


def to_terminal(*, as_json: bool) -> Output:
    """Return an output that writes to standard output."""
    return Output(sys.stdout.buffer, as_json=as_json)


def _encoded(text: str) -> bytes:
    """Return text as bytes, and restore a path's bytes that are no text."""
    return text.encode(errors="surrogateescape")


def _label(name: str) -> bytes:
    return f"{name:<{WIDTH}} | ".encode()


def _as_object(name: str, line: bytes) -> bytes:
    if line.startswith(b"{") and line.rstrip().endswith(b"}"):
        return line
    text = line.decode("utf-8", "replace")
    return json.dumps({"process": name, "message": text}).encode()
