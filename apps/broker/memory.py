"""The Dramatiq broker for one process, with no RabbitMQ."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from dramatiq import Broker, Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed, QueueNotFound

from apps.broker.interface import prefetch_of
from apps.broker.ladder import check_delay
from apps.broker.middleware import middleware


class MemoryBroker(Broker):
    """Keeps messages in memory; they end with the process.

    A message is dropped while its queue holds one with the same first
    argument, waiting or being worked on.
    """

    queues: dict[str, _Queue]

    def __init__(self) -> None:
        super().__init__(middleware=middleware())
        #: See TimerBroker.
        self.looked_at: dict[str, float] = {}

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue, if it isn't there."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = _Queue()
            self.emit_after("declare_queue", queue_name)

    def enqueue(
        self, message: Message[Any], *, delay: int | None = None
    ) -> Message[Any]:
        """Put the message on its queue; it is due in ``delay`` milliseconds.

        Raises ValueError for a delay beyond the horizon, QueueNotFound if no
        actor uses the queue, and ConnectionClosed after close().
        """
        check_delay(delay or 0)
        queue = self._queue(message.queue_name)
        self.emit_before("enqueue", message, delay)
        queue.put(message, time.monotonic() + (delay or 0) / 1000)
        self.emit_after("enqueue", message, delay)
        return message

    def enqueue_many(
        self, messages: Sequence[tuple[Message[Any], int]]
    ) -> list[Exception | None]:
        """Enqueue (message, delay in ms) pairs.

        Returns what became of each, in their order: None, or the exception
        that ``enqueue`` would have raised.
        """
        outcomes: list[Exception | None] = []
        for message, delay in messages:
            try:
                self.enqueue(message, delay=delay)
            except (ValueError, QueueNotFound, ConnectionClosed) as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    def consume(
        self, queue_name: str, prefetch: int = 1, timeout: int = 5000
    ) -> Consumer:
        """Return a consumer that wakes when a message is due.

        ``prefetch`` is what Dramatiq asks for (see ``prefetch_of``), and
        ``timeout`` how long the consumer waits for a message, in ms.
        """
        def look() -> None:
            self.looked_at[queue_name] = time.monotonic()

        return _MemoryConsumer(
            self._queue(queue_name),
            prefetch_of(queue_name, prefetch),
            timeout / 1000,
            look,
        )

    def depth(self, queue_name: str) -> int:
        """Return how many messages are due and not yet taken."""
        return self._queue(queue_name).depth()

    def is_connected(self) -> bool:
        """Return True: there is nothing to connect to."""
        return True

    def forget_topology(self) -> None:
        """Do nothing: there is nothing to declare."""

    def known(self, key: object, due: float = math.inf) -> bool:
        """Whether a message with this first argument waits or is worked on.

        One that waits counts only if it comes no later than `due`, on
        `time.monotonic()`.
        """
        return any(queue.comes(key, due) for queue in self.queues.values())

    def outstanding(self) -> int:
        """Return how many messages wait or are worked on."""
        return sum(len(queue.keys) for queue in self.queues.values())

    def close(self) -> None:
        """Forget the messages and wake the consumers."""
        for queue in self.queues.values():
            queue.close()

    def _queue(self, queue_name: str) -> _Queue:
        try:
            return self.queues[queue_name]
        except KeyError:
            raise QueueNotFound(  # type: ignore[no-untyped-call]
                queue_name
            ) from None


class _Queue:
    """Messages in the order of their due times, on the monotonic clock."""

    def __init__(self) -> None:
        #: The keys of all messages that wait or are worked on, with the time
        #: at which the first message of each is due.
        self.keys: dict[object, float] = {}
        self._changed = threading.Condition()
        # The count keeps messages with the same due time in order.
        self._heap: list[tuple[float, int, Message[Any]]] = []
        self._count = itertools.count()
        self._is_closed = False

    def comes(self, key: object, due: float) -> bool:
        known = self.keys.get(key)
        return known is not None and known <= due

    def put(self, message: Message[Any], due: float) -> None:
        with self._changed:
            if self._is_closed:
                raise ConnectionClosed(  # type: ignore[no-untyped-call]
                    "The broker is closed"
                )
            key = _key(message)
            if self.comes(key, due):
                return
            self.keys[key] = due
            heapq.heappush(self._heap, (due, next(self._count), message))
            self._changed.notify_all()

    def take(
        self, has_room: Callable[[], bool], timeout: float
    ) -> Message[Any] | None:
        """Return the first message that is due while there is room for it.

        None after ``timeout`` seconds, or when the queue is closed.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._is_closed:
                now = time.monotonic()
                wake_at = deadline
                if self._heap and has_room():
                    wake_at = min(deadline, self._heap[0][0])
                    if self._heap[0][0] <= now:
                        return heapq.heappop(self._heap)[2]
                if now >= deadline:
                    return None
                self._changed.wait(wake_at - now)
            return None

    def done(self, message: MessageProxy) -> None:
        with self._changed:
            self.keys.pop(_key(message), None)
            self._changed.notify_all()

    def depth(self) -> int:
        now = time.monotonic()
        with self._changed:
            return sum(due <= now for due, _, _ in self._heap)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._heap.clear()
            self.keys.clear()
            self._changed.notify_all()


def _key(message: Message[Any] | MessageProxy) -> object:
    return message.args[0] if message.args else message.message_id


class _MemoryConsumer(Consumer):
    """Takes at most ``prefetch`` messages that aren't done yet."""

    def __init__(
        self,
        queue: _Queue,
        prefetch: int,
        timeout: float,
        look: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._look = look
        self._prefetch = prefetch
        self._timeout = timeout
        self._taken = 0

    def __next__(self) -> MessageProxy | None:
        message = self._queue.take(self._has_room, self._timeout)
        self._look()
        if message is None:
            return None
        self._taken += 1
        return MessageProxy(message)

    def _has_room(self) -> bool:
        return self._taken < self._prefetch

    def ack(self, message: MessageProxy) -> None:
        """Forget the message, whatever became of it."""
        self._taken -= 1
        self._queue.done(message)

    nack = ack
