"""Dividing the body of a request for many timers into its items."""

import codecs
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

#: The longest item, in bytes; of an array, in characters.
MOST_ITEM = 128 * 1024
#: A chunk is stored in one commit. It ends after this many items, or with the
#: item that brings it to this many bytes.
CHUNK_ITEMS = 500
CHUNK_BYTES = 512 * 1024
_PIECE = 64 * 1024
_SPACE = " \t\n\r"

Read = Callable[[int], bytes]
#: An item as it came; None stands for one that is too long.
Raw = bytes | None


class NotArray(ValueError):
    """The body is not a JSON array; the text says where it goes wrong."""


class Chunk(NamedTuple):
    """Some items of a request; chunks are counted from 0."""

    number: int
    items: list[Raw]

    def fingerprint(self) -> bytes:
        """Return a hash of all items."""
        joined = b"\n".join(item or b"" for item in self.items)
        return hashlib.sha256(joined).digest()


def chunks(items: Iterable[Raw]) -> Iterator[Chunk]:
    """Divide items into chunks: always the same ones for the same items."""
    number, size = 0, 0
    chunk: list[Raw] = []
    for item in items:
        chunk.append(item)
        size += len(item or b"")
        if len(chunk) == CHUNK_ITEMS or size >= CHUNK_BYTES:
            yield Chunk(number, chunk)
            number, size, chunk = number + 1, 0, []
    if chunk:
        yield Chunk(number, chunk)


def lines(read: Read) -> Iterator[Raw]:
    """Yield the lines that are not empty, without the space around them."""
    rest = b""
    is_dropped = False  # the beginning of `rest`'s line was too long
    while piece := read(_PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if is_dropped or len(line) > MOST_ITEM:
                yield None
            elif line := line.strip():
                yield line
            is_dropped = False
        if len(rest) > MOST_ITEM:
            rest, is_dropped = b"", True
    if is_dropped:
        yield None
    elif rest := rest.strip():
        yield rest


def array_items(read: Read) -> Iterator[bytes]:
    """Yield the items of a JSON array; raise NotArray if it isn't one.

    The items are divided as Python's decoder reads them, and are not checked
    any further.
    """
    text = _Text(read)
    if text.next() != "[":
        raise NotArray("it does not begin with [")
    if text.peek() == "]":
        text.next()
    else:
        yield text.item()
        while (char := text.next()) == ",":
            yield text.item()
        if char != "]":
            raise NotArray("a comma or ] is missing after an item")
    if text.peek():
        raise NotArray("something follows the ] at its end")


class _Text:
    """A body in UTF-8, read only as far as it is needed."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(parse_int=str, parse_float=str)
        self._text = ""
        self._at = 0
        self._has_ended = False
        self._items = 0

    def peek(self) -> str:
        """Return the next character that is no white space, "" at the end."""
        while True:
            while self._at < len(self._text):
                char = self._text[self._at]
                if char not in _SPACE:
                    return char
                self._at += 1
            if self._has_ended:
                return ""
            self._get_more()

    def next(self) -> str:
        """Return what `peek` does, and go on behind it."""
        char = self.peek()
        self._at += len(char)
        return char

    def item(self) -> bytes:
        """Return the JSON value that comes next, as it is written."""
        self.peek()
        self._items += 1
        while True:
            reason = f"item {self._items} is longer than {MOST_ITEM:,}"
            try:
                _, end = self._json.raw_decode(self._text, self._at)
            except RecursionError:
                raise NotArray("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                reason = f"item {self._items}: {error.msg}"
            else:
                # A number may go on.
                if end < len(self._text) or self._has_ended:
                    item, self._at = self._text[self._at:end], end
                    return item.encode(errors="surrogatepass")
            if self._has_ended or len(self._text) - self._at > MOST_ITEM:
                raise NotArray(reason)
            self._get_more()

    def _get_more(self) -> None:
        piece = self._read(_PIECE)
        self._has_ended = not piece
        try:
            more = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            raise NotArray("it is not UTF-8") from None
        self._text = self._text[self._at:] + more
        self._at = 0
