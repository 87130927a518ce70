"""Each request has an id, in its answer and in its log lines."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from config import front, request_id
from config.front import Front
from config.logs import JsonLine
from tests.support.api import GOOD

MADE = re.compile("[0-9a-f]{32}")


def ask(path: str = "/livez", given: str | None = None) -> str:
    """Return the id in the answer to a GET."""
    headers = {} if given is None else {"X-Request-Id": given}
    answer = Client(raise_request_exception=False).get(path, headers=headers)
    return str(answer["X-Request-Id"])


@pytest.mark.parametrize(
    "given", ["a", "a-1.b", "x" * 128, 'with a "quote" and = space', "~!"]
)
def test_a_sane_id_is_kept(given: str) -> None:
    assert ask(given=given) == given


@pytest.mark.parametrize(
    "given",
    ["", "x" * 129, "a\nb", "a\r\nSet-Cookie: a=b", "a\x00", "é", "\x1b[31m"],
)
def test_any_other_is_replaced(given: str) -> None:
    assert MADE.fullmatch(ask(given=given))


def test_ids_that_are_made_differ() -> None:
    assert len({ask() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "path", ["/livez", "/nothing", "/timers?nothing=1", "/" + "x" * 9000]
)
def test_every_answer_has_it(path: str) -> None:
    assert ask(path, "mine") == "mine"


def test_an_answer_without_django_has_it(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a server that is full
    monkeypatch.setattr(front, "PLACES", 0)
    sent: dict[str, str] = {}

    def start_response(
        status: str, headers: list[tuple[str, str]], *_: object
    ) -> Callable[[bytes], object]:
        sent.update(headers, status=status)
        return lambda _: None

    # When a request is refused
    Front(lambda *_: [], 0)(
        {"PATH_INFO": "/", "HTTP_X_REQUEST_ID": "mine"}, start_response
    )

    # Then its answer has the request's id, too
    assert sent["status"].startswith("503")
    assert sent["X-Request-Id"] == "mine"


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, object]]]]:
    """Return what is logged from now on, down to debug."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLine())
    loggers = [logging.getLogger(name) for name in ("apps", "config")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().split("\n")
                   if line]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
        logger.removeHandler(handler)


@pytest.mark.usefixtures("memory_broker")
def test_every_line_of_a_request_has_it(
    lines: Callable[[], list[dict[str, object]]]
) -> None:
    headers = {"X-Request-Id": "mine"}
    answer = Client().post(
        "/timer?a=secret", GOOD, "application/json", headers=headers
    )
    assert answer.status_code == 422
    Client().post("/timer", GOOD, "application/json", headers=headers)
    # These are stored on another thread.
    Client().post("/timers", [GOOD], "application/json", headers=headers)
    logging.getLogger("apps").info("something else")

    refused, timer, first, timers, second, other = lines()

    assert refused.pop("took_ms", None) is not None
    assert {name: refused[name] for name in refused if name != "time"} == {
        "level": "DEBUG", "logger": "config.middleware", "message": "request",
        "method": "POST", "path": "/timer", "status": 422,
        "request_id": "mine",
    }  # fmt: skip
    assert [timer["message"], timers["message"]] == ["timer set", "timers set"]
    assert [first["status"], second["status"]] == [201, 200]
    for line in (timer, first, timers, second):
        assert line["request_id"] == "mine"
    assert "request_id" not in other


def test_nothing_is_logged_of_requests_at_info(
    lines: Callable[[], list[dict[str, object]]]
) -> None:
    logging.getLogger("config").setLevel(logging.INFO)

    ask()

    assert lines() == []
    assert request_id.CURRENT.get() is None
