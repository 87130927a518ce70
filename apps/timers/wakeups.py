"""Waiting for the next pass: a while, or until Postgres has news."""

import logging
import threading
import time

import psycopg
from django.conf import settings

from apps.timers.database import (
    UNAVAILABLE,
    Connection,
    connection_arguments,
)
from apps.timers.sql import CHANNEL

logger = logging.getLogger(__name__)


class Wakeups:
    """Listens on a connection of its own for near timers being stored.

    Where nothing can be listened to (Postgres is away, or DATABASE_POOLER
    says that a pooler is in between) it waits the whole while: news are a
    short cut, not needed.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._connection: Connection | None = None

    def wait(self, seconds: float) -> None:
        """Return at news, when the time is up, or soon after `stopping`."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set():
            left = until - time.monotonic()
            if left <= 0 or self._heard(min(left, 0.5)):
                return

    def _heard(self, seconds: float) -> bool:
        """Listen for so long; return whether there may have been news.

        What came before the listening began, nobody heard: that it has
        begun counts as news.
        """
        if settings.DATABASE_POOLER:
            self._stopping.wait(seconds)
            return False
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    **connection_arguments(), autocommit=True
                )
                self._connection.execute(f"LISTEN {CHANNEL}")
                return True
            news = self._connection.notifies(timeout=seconds, stop_after=1)
            return any(True for _ in news)
        except UNAVAILABLE:
            self.close()
            self._stopping.wait(seconds)
            return False

    def close(self) -> None:
        """Stop listening; the next wait begins anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
