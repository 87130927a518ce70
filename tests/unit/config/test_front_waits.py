"""Requests that wait leave their places and turns to others."""

import gc
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

from apps.core import waits
from config import front
from config.front import Front


class Pieces(list[bytes]):
    """An answer in pieces, as Django's StreamingHttpResponse is one."""

    streaming = True


class Application:
    """Waits at /inbox/… until told to go on; answers b"left" if it may."""

    def __init__(self) -> None:
        self.left: SimpleQueue[bool] = SimpleQueue()
        self.go_on = Event()

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        start("200 OK", [])
        if environ["PATH_INFO"] == "/inbox/endless":
            assert waits.leave(environ)
            return Pieces([b"1", b"2"])
        if environ["PATH_INFO"] == "/inbox/wait":
            may = waits.leave(environ)
            self.left.put(may)
            if may:
                self.go_on.wait(10)
            return [b"left" if may else b"stays"]
        return [b"quick"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> tuple[Front, Application]:
    """Return a front with one place, one turn and one wait."""
    monkeypatch.setattr(front, "PLACES", 1)
    monkeypatch.setattr(front, "AT_ONCE", 1)
    monkeypatch.setattr(waits, "MOST", 1)
    application = Application()
    return Front(application, 100), application


def start(*_: Any) -> Callable[[bytes], object]:
    """Take an answer's status and headers."""
    return lambda _: None


def ask(front: Front, path: str, body: bytes = b"") -> Any:
    environ = {
        "PATH_INFO": path, "REQUEST_METHOD": "POST", "SERVER_PORT": "1",
        "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body),
    }
    return front(environ, start)


def held(front: Front) -> tuple[int, int, int]:
    """Return how many places, turns and waits are free."""
    return (
        front._places.qsize(), front._turns.qsize(), front._waits.qsize()
    )


def test_one_that_waits_holds_up_nobody(
    narrow: tuple[Front, Application]
) -> None:
    front, application = narrow
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, front, "/inbox/wait", b"body")
        assert application.left.get(timeout=10)
        assert ask(front, "/timer") == [b"quick"]
        # A second one may not wait, and is answered at once.
        assert ask(front, "/inbox/wait") == [b"stays"]
        application.go_on.set()
        assert b"".join(waiting.result(10)) == b"left"
    assert held(front) == (1, 1, 1)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_an_endless_answer_gives_all_back(
    narrow: tuple[Front, Application], count: int
) -> None:
    front, _ = narrow
    pieces: Iterator[bytes] = iter(ask(front, "/inbox/endless"))
    assert held(front) == (1, 1, 0)
    got = [piece for piece, _ in zip(pieces, range(count), strict=False)]
    assert b"".join(got).startswith(b"12"[:count])
    del pieces  # the client is gone
    gc.collect()
    assert held(front) == (1, 1, 1)


def test_so_does_a_body_that_does_not_come(
    narrow: tuple[Front, Application]
) -> None:
    front, _ = narrow
    environ = {
        "PATH_INFO": "/inbox/wait", "REQUEST_METHOD": "POST",
        "SERVER_PORT": "1", "CONTENT_LENGTH": "5",
        "wsgi.input": io.BytesIO(b"half"),
    }
    assert b"did not arrive" in b"".join(front(environ, start))
    assert held(front) == (1, 1, 1)
