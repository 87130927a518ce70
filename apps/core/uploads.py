"""A long body that is read piece by piece while its request is handled."""

import io
from collections.abc import Callable

#: The longest such body, in bytes.
MOST = 64 * 1024 * 1024
#: The method and the path of requests that have one.
OPERATION = ("POST", "/timers")


class TooLong(Exception):
    """More than MOST bytes came."""


class CutOff(Exception):
    """The body ended before the length that was announced."""


class Upload(io.IOBase):
    """A body; `length` is the announced one, None if it comes chunked."""

    def __init__(
        self, read: Callable[[int], bytes], length: int | None
    ) -> None:
        self._read = read
        self._length = length
        self._count = 0

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end.

        Raises TooLong or CutOff.
        """
        piece = self._read(size)
        self._count += len(piece)
        if self._count > MOST:
            raise TooLong
        if not piece and self._length and self._count < self._length:
            raise CutOff
        return piece
