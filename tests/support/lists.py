"""Lists of timers, asked for over the API."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.test import Client

from tests.support.api import create

Pairs = Sequence[tuple[str, object]]


def ask(*pairs: tuple[str, object]) -> Any:
    """Ask for a list, with parameters that may stand repeatedly."""
    client = Client(raise_request_exception=False)
    return client.get(f"/timers?{urlencode(pairs)}")


def listed(*pairs: tuple[str, object]) -> list[str]:
    answer = ask(*pairs)
    assert answer.status_code == 200, answer.content
    return [timer["id"] for timer in answer.json()["timers"]]


def paged(*pairs: tuple[str, object]) -> list[str]:
    """Return the ids of all pages of two timers."""
    found: list[str] = []
    after: Pairs = ()
    while True:
        page = ask(*pairs, *after, ("limit", 2)).json()
        found += [timer["id"] for timer in page["timers"]]
        if page["next"] is None:
            return found
        assert page["next"] == found[-1]
        after = [("after", page["next"])]


def made(**fields: Any) -> str:
    answer = create(**fields)
    assert answer.status_code == 201, answer.content
    timer_id: str = answer.json()["id"]
    return timer_id
