"""An answer while it is read: status, Retry-After, start of the body.

Its heads are searched for the two lines that matter. httptools (llhttp,
Node.js's parser) tells where the body ends. llhttp refuses a whole answer for
one header line that is wrong. The status must survive that, so the body of
such an answer is taken to end with its connection.
"""

import re
from collections.abc import Callable

import httptools

from apps.webhooks.http.exchange import Failed
from apps.webhooks.results import FailureKind

#: The most that is read of heads, those of 1xx answers included, in bytes.
MAX_HEAD = 16 * 1024
#: The most that is read of a body, and the part of it that is kept, in bytes.
MAX_BODY = 64 * 1024
KEPT_BODY = 1024

_BEGINNING = b"HTTP/1."
_STATUS_LINE = re.compile(
    rb"[\r\n]*HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n"
)
_HEAD_END = re.compile(rb"\n\r?\n")
_RETRY_AFTER = re.compile(rb"\n(?i:retry-after):[ \t]*([^\r\n]*)")


class Answer:
    """Takes an answer piece by piece.

    status       its status code; None until its head is complete
    retry_after  the header of that name, without the spaces around it
    head         all that came before the body, 1xx answers included
    body         the first bytes of its body, not decoded
    is_complete  whether it has ended, or no more of it is read
    reusable     whether its connection may serve another call
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.head = b""
        self.body = b""
        self.is_complete = False
        self.reusable = False
        self._head_begins = 0
        self._body_size = 0
        self._is_framed = False
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True
        )
        self._take: Callable[[bytes], None] = self._parser.feed_data

    def feed(self, data: bytes) -> None:
        """Take the next bytes; none mean that the connection has ended.

        Raises Failed if they can't be an answer.
        """
        if self.status is None:
            self._feed_head(data)
        elif data:
            self._feed_body(data)
        if not data or self._body_size >= MAX_BODY:
            self._end()

    def _feed_head(self, data: bytes) -> None:
        """Read the heads that have come, up to one that is final.

        Where the connection ends, the empty line after a head may be missing.
        """
        start = max(self._head_begins, len(self.head) - 2)
        self.head += data or b"\r\n\r\n"
        if data and not self.head.startswith(_BEGINNING[: len(self.head)]):
            raise Failed(FailureKind.protocol, "what came is not HTTP/1")
        while not self.status and (end := _HEAD_END.search(self.head, start)):
            start = end.end()
            self._read_head(start)
        if self.status is not None:
            self._feed_body(self.head)
        elif not data:
            raise Failed(FailureKind.protocol, "the answer has no status line")
        elif len(self.head) >= MAX_HEAD:
            raise Failed(FailureKind.protocol, "the answer's head is too long")

    def _read_head(self, end: int) -> None:
        """Take status and Retry-After from a head if it is final.

        Interim ones (1xx, RFC 9110, section 15.2) announce another one.
        """
        begin, self._head_begins = self._head_begins, end
        first = _STATUS_LINE.match(self.head, begin)
        if first is None:
            raise Failed(FailureKind.protocol, "the answer has no status line")
        status = int(first[1])
        if status == 101 or status >= 200:
            self.status = status
            if asked := _RETRY_AFTER.findall(self.head, begin, end):
                self.retry_after = asked[-1].decode("latin-1").strip(" \t")

    def _feed_body(self, data: bytes) -> None:
        """Let llhttp find the body; if it refuses the head, all is body."""
        try:
            self._take(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            if self._is_framed:
                self._end()
            else:
                self._take = self.on_body
                self.on_body(self.head[self._head_begins:])

    def _end(self) -> None:
        self.is_complete, self.reusable = True, False

    # --- what llhttp calls -------------------------------------------------

    def on_message_begin(self) -> None:
        """Note that something follows an answer that is complete."""
        if self.is_complete:
            self.reusable = False

    def on_headers_complete(self) -> None:
        """Note that llhttp has accepted the head of the final answer."""
        self._is_framed = self._parser.get_status_code() == self.status

    def on_body(self, data: bytes) -> None:
        """Keep the body's start."""
        if not self.is_complete:
            self._body_size += len(data)
            self.body += data[: KEPT_BODY - len(self.body)]

    def on_message_complete(self) -> None:
        """Note the answer's end."""
        if self._is_framed and not self.is_complete:
            self.is_complete = True
            self.reusable = self._parser.should_keep_alive()
