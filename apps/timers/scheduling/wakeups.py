"""Waiting for the next pass: a while, or until Postgres has news."""

import threading
import time

import psycopg
from django.conf import settings

from apps.core.database import (
    UNAVAILABLE,
    Connection,
    connection_arguments,
)
from apps.core.outages import TROUBLES
from apps.timers.storage.queueing import CHANNEL

_SENTENCE = "news can't be listened for; timers are looked for as often"


class Wakeups:
    """Listens on a connection of its own for near timers being stored.

    If it can't listen (Postgres is away, or DATABASE_POOLER says that a pooler
    is in between), it waits the whole time: news is a short cut, not needed.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._connection: Connection | None = None

    def wait(self, seconds: float) -> None:
        """Return at news, when the time is up, or soon after `stopping`."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set():
            left = until - time.monotonic()
            if left <= 0 or self._listen(min(left, 0.5)):
                return

    def _listen(self, seconds: float) -> bool:
        """Wait for these seconds at most; return whether there may be news.

        News is not needed: a failure costs no more than the wait.
        """
        try:
            heard = self._heard(seconds)
        except Exception as error:
            if not isinstance(error, UNAVAILABLE):  # others report that
                TROUBLES.note("listening for news", _SENTENCE, error)
            self.close()
            self._stopping.wait(seconds)
            return False
        TROUBLES.worked("listening for news")
        return heard

    def _heard(self, seconds: float) -> bool:
        """Listen for these seconds at most; return whether there may be news.

        Nobody heard what came before the listening began. So its beginning
        counts as news.
        """
        if settings.DATABASE_POOLER:
            self._stopping.wait(seconds)
            return False
        if self._connection is None:
            self._connection = psycopg.connect(
                **connection_arguments(), autocommit=True
            )
            self._connection.execute(f"LISTEN {CHANNEL}")
            return True
        news = self._connection.notifies(timeout=seconds, stop_after=1)
        return any(True for _ in news)

    def close(self) -> None:
        """Stop listening; the next wait begins anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
