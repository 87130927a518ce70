"""Values that are made at most once in a while, however often they are used.

A hundred open tabs ask Postgres as often as one.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar, cast

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a page that changes; its tag changes with its text."""

    text: str
    tag: str

    @classmethod
    def of(cls, template: str, values: dict[str, Any]) -> Self:
        """Return what a template makes of the values."""
        text = render_to_string(template, values)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return cls(text, f'"{digest[:32]}"')

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer a page that asks for news; 304 if there are none."""
        if request.headers.get("If-None-Match") == self.tag:
            return HttpResponse(status=304)
        return HttpResponse(self.text, headers={"ETag": self.tag})


class Drawn:
    """Draws a part of a page, for each account; anew if its values changed.

    To draw costs more than to read what is drawn.
    """

    def __init__(
        self, template: str, read: Callable[[int], dict[str, Any]]
    ) -> None:
        self._template = template
        self._read = read
        self._latest: dict[int, tuple[dict[str, Any], Part]] = {}

    def __call__(self, account: int) -> Part:
        """Return the part; raise what reading raises."""
        values = self._read(account)
        latest = self._latest.get(account)
        if latest is None or latest[0] != values:
            latest = values, Part.of(self._template, values)
            self._latest[account] = latest
        return latest[1]


@dataclass(slots=True)
class _Made(Generic[T]):
    """What was made for an account last, and when."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = float("-inf")
    value: T | None = None


class Fresh(Generic[T]):
    """Makes a value for each account; it is used for `seconds`.

    Whoever asks while it is made waits for it, but for no other account's.
    """

    def __init__(self, make: Callable[[int], T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._made: dict[int, _Made[T]] = {}

    def __call__(self, account: int, seconds: float | None = None) -> T:
        """Return the value; raise what making it raises.

        `seconds`: for how long it is used here, if not for as long as usual.
        """
        most = self._seconds if seconds is None else seconds
        # One for all threads: setdefault() is atomic.
        made = self._made.setdefault(account, _Made())
        with made.lock:
            if made.at + most < time.monotonic():
                made.value = self._make(account)
                made.at = time.monotonic()
            return cast(T, made.value)

    def forget(self) -> None:
        """Make all values anew."""
        self._made.clear()
