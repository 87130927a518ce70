"""An answer while it is read: status, Retry-After, start of the body.

httptools (llhttp, Node.js's parser) reads it. llhttp refuses a whole answer
for one header line that is wrong. The status must survive that, so such a
head is read line by line instead, and its framing is not trusted.
"""

import re

import httptools

from apps.webhooks.http.exchange import Failed, FailureKind

#: The most that is read of heads, those of 1xx answers included, in bytes.
MAX_HEAD = 16 * 1024
#: The most that is read of a body, and the part of it that is kept, in bytes.
MAX_BODY = 64 * 1024
KEPT_BODY = 1024

_BEGINNING = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_RETRY_AFTER = re.compile(rb"\nretry-after:[ \t]*([^\r\n]*)", re.IGNORECASE)


class Answer:
    """Takes an answer piece by piece.

    status       its status code; None until its head is complete
    retry_after  the header of that name, without the spaces around it
    body         the first bytes of its body, not decoded
    is_complete  whether it has ended, or no more of it is read
    reusable     whether its connection may serve another call
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body = b""
        self.is_complete = False
        self.reusable = False
        self._read = 0
        self._head = b""
        self._parser: httptools.HttpResponseParser | None
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes; none mean that the connection has ended.

        Raises Failed if they can't be an answer.
        """
        if not data:
            self._feed_end()
        elif self.status is None:
            self._feed_head(data)
        elif self._parser is not None:
            self._parse(data)
        else:
            self.on_body(data)
        if self._read >= MAX_BODY:
            self._end()

    def _feed_end(self) -> None:
        """End the answer; a head may lack the empty line at its end."""
        if self.status is None:
            self._read_lines(self._head + b"\r\n\r\n")
        if self.status is None:
            raise Failed(FailureKind.protocol, "the answer has no status line")
        self._end()

    def _end(self) -> None:
        self.is_complete, self.reusable = True, False

    def _feed_head(self, data: bytes) -> None:
        self._head += data
        if not self._head.startswith(_BEGINNING[: len(self._head)]):
            raise Failed(FailureKind.protocol, "what came is not HTTP/1")
        if self._parser is not None:
            self._parse(data)
        if self._parser is None:
            self._read_lines(self._head)
        if self.status is None and len(self._head) >= MAX_HEAD:
            raise Failed(FailureKind.protocol, "the answer's head is too long")

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end()
        except httptools.HttpParserError:
            if self.status is None:
                self._parser = None
            else:
                self._end()

    def _read_lines(self, head: bytes) -> None:
        """Read heads that llhttp refuses, as far as they have come.

        All bytes after the last head, up to the connection's end, are the
        body. Raises Failed if a head has no status line.
        """
        while end := _END_OF_HEAD.search(head):
            first = _STATUS_LINE.match(head)
            if first is None:
                raise Failed(
                    FailureKind.protocol, "the answer has no status line"
                )
            rest = head[end.end():]
            if _is_final(int(first[1])):
                self.status = int(first[1])
                asked = _RETRY_AFTER.search(head, 0, end.end())
                if asked is not None:
                    self.on_header(b"retry-after", asked[1])
                self.on_body(rest)
                return
            head = rest

    # --- what llhttp calls -------------------------------------------------

    def on_message_begin(self) -> None:
        """Note that something follows an answer that is complete."""
        if self.is_complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the one header that is of use."""
        if len(name) == 11 and name.lower() == b"retry-after":
            self.retry_after = value.decode("latin-1").strip(" \t")

    def on_headers_complete(self) -> None:
        """Take the status, unless another one is to follow."""
        assert self._parser is not None
        if self.status is not None:
            return
        status = self._parser.get_status_code()
        if _is_final(status):
            self.status = status
        else:
            self.retry_after = None

    def on_body(self, data: bytes) -> None:
        """Keep the body's start."""
        if not self.is_complete:
            self._read += len(data)
            self.body += data[: KEPT_BODY - len(self.body)]

    def on_message_complete(self) -> None:
        """Note the answer's end."""
        assert self._parser is not None
        if self.status is not None and not self.is_complete:
            self.is_complete = True
            self.reusable = self._parser.should_keep_alive()


def _is_final(status: int) -> bool:
    """Tell whether the status is final, not interim (RFC 9110, 15.2)."""
    return status == 101 or status >= 200
