"""Code under test that runs only when the scheduler lets it."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

#: What a task stops for whose statement waits for another one's lock.
BLOCKED = ("blocked",)
#: How long a statement may run before it is asked for, in seconds.
_MOMENT = 0.005


class Killed(BaseException):
    """The process died: no `except Exception` may act on it."""


class Task:
    """A function on a thread of its own, resumed step by step.

    It stops wherever it calls `ask`, and `request` then says for what; None
    means that it has ended. Only one of the two threads runs at a time.
    `is_blocked` tells whether its statement waits for a lock. If so, the task
    counts as stopped, and goes on by itself when the lock is free.
    """

    def __init__(
        self,
        function: Callable[[], None],
        is_blocked: Callable[[], bool] | None = None,
    ) -> None:
        self.request: Any = None
        self._is_blocked = is_blocked
        self._error: BaseException | None = None
        self._requests: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(function,), daemon=True
        )

    def start(self) -> None:
        """Run until the first request."""
        self._thread.start()
        self.settle()

    def ask(self, request: object) -> Any:
        """Stop, in the task, until there is an answer or an exception."""
        self._requests.put(request)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def resume(self, answer: object) -> None:
        """Answer the request and run until the next; raise its error."""
        self._answers.put(answer)
        self.settle()

    def kill(self) -> None:
        """End the task where it stands."""
        if self.request is not None:
            self.resume(Killed())

    def settle(self) -> None:
        """Wait until the task stops, or is blocked."""
        self.request = self._next()
        if self.request is None:
            self._thread.join()
            if self._error is not None:
                raise self._error

    def _next(self) -> Any:
        if self._is_blocked is None:
            return self._requests.get()
        while True:
            try:
                return self._requests.get(timeout=_MOMENT)
            except Empty:
                if self._is_blocked():
                    return BLOCKED

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Killed:
            pass
        except BaseException as error:
            self._error = error
        self._requests.put(None)
