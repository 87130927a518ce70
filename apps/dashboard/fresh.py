"""Values that are made at most once in a while, however often they are used.

A hundred open tabs ask Postgres as often as one.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

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


class Fresh(Generic[T]):
    """Makes a value for each account; it is used for `seconds`."""

    def __init__(self, make: Callable[[int], T], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._lock = threading.Lock()
        self._made: dict[int, tuple[float, T]] = {}

    def __call__(self, account: int) -> T:
        """Return the value; raise what making it raises."""
        with self._lock:
            made_at, value = self._made.get(account, (None, None))
            if made_at is None or made_at + self._seconds < time.monotonic():
                value = self._make(account)
                self._made[account] = time.monotonic(), value
            return value  # type: ignore[return-value]

    def forget(self) -> None:
        """Make all values anew."""
        with self._lock:
            self._made.clear()
