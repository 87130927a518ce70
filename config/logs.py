"""Log lines: one per event, with its details as key=value or as JSON.

An event is logged as `logger.info("timer created", extra={"timer": id})`.
The values in `extra` follow the sentence. A value that has a space, a quote
or an equals sign is quoted.
"""

import json
import logging
import os
import re
from datetime import UTC, datetime

from config.request_id import CURRENT

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName",
}

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_BARE = re.compile(r"""[\s"=\\\x00-\x1f\x7f-\x9f]""")


def _details(record: logging.LogRecord) -> dict[str, object]:
    """Return what the caller put in `extra`, and which request it is about."""
    details = {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD
    }
    if (request_id := CURRENT.get()) is not None:
        details["request_id"] = request_id
    return details


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    """Escape the characters that can move a terminal's cursor."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _quoted(value: str) -> str:
    """Return a value, in quotes if it could be taken for several.

    A receiver's text may hold ` key=value`. A quoted value is a JSON string,
    as in logfmt.
    """
    if not _NOT_BARE.search(value):
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


class Lines(logging.Handler):
    """Writes each line to standard error at once, and waits for no lock.

    A write releases Python's own lock. The standard library writes while it
    holds the handler's lock, so all threads that log queue up behind one that
    waits for Python's. A pipe keeps lines apart up to PIPE_BUF (4,096 bytes
    on Linux, 512 at least).
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record if the filters let it pass; tell whether it did.

        The standard library's `handle` does the same under a lock. Only
        public names are used here, since private ones differ between Python
        versions: a handler without a lock failed at its first line on 3.13.
        """
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # since Python 3.12
            record = passed
        if passed:
            self.emit(record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            line = f"{self.format(record)}\n".encode(errors="replace")
            while line:
                line = line[os.write(2, line):]
        except Exception:
            self.handleError(record)


class Seldom(logging.Filter):
    """Passes one record a minute, the first one that comes."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged."""
        if record.created < self._passed + 60:
            return False
        self._passed = record.created
        return True


def not_503(record: logging.LogRecord) -> bool:
    """Return False for a 503: an outage is logged once, not per request."""
    return getattr(record, "status_code", None) != 503


def unasked(record: logging.LogRecord) -> bool:
    """Return False for a 500 that an inbox was told to answer."""
    is_500 = getattr(record, "status_code", None) == 500
    return record.exc_info is not None or not is_500


class TextLine(logging.Formatter):
    """A line for people: time, level, sentence, details."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; a traceback follows, if any."""
        message = record.getMessage()
        message = message.replace("\r", "\\r").replace("\n", "\\n")
        parts = [_time(record), record.levelname, _printable(message)]
        parts += [
            f"{key}={_quoted(str(value))}"
            for key, value in _details(record).items()
        ]
        line = " ".join(parts)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonLine(logging.Formatter):
    """A line for machines: one JSON object, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object on one line."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_details(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
