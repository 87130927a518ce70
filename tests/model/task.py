"""Code under test that runs only when the scheduler lets it."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Killed(BaseException):
    """The process died: no `except Exception` may act on it."""


class Task:
    """A function on a thread of its own, resumed step by step.

    It stops wherever it calls `ask`, and `request` then says for what; None
    means that it has ended. Only one of the two threads runs at a time.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self.request: Any = None
        self._error: BaseException | None = None
        self._requests: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(function,), daemon=True
        )

    def start(self) -> None:
        """Run until the first request."""
        self._thread.start()
        self._wait()

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
        self._wait()

    def kill(self) -> None:
        """End the task where it stands."""
        if self.request is not None:
            self.resume(Killed())

    def _wait(self) -> None:
        self.request = self._requests.get()
        if self.request is None:
            self._thread.join()
            if self._error is not None:
                raise self._error

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Killed:
            pass
        except BaseException as error:
            self._error = error
        self._requests.put(None)
