"""What GET /timer/{id}/explain answers, in a form to compare."""

import json
import re
from typing import Any
from uuid import UUID

from django.test import Client

from tests.support.rows import row

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_SPAN = re.compile(
    r"\b\d+ (?:day|days|h|min|s|ms)\b(?: \d+ (?:h|min|s)\b)?"
)
_PORT = re.compile(r"127\.0\.0\.1:\d+")


def plain(text: str) -> str:
    """Return a text in which T stands for each moment, N for a duration."""
    return _PORT.sub("HOST", _SPAN.sub("N", _MOMENT.sub("T", text)))


def explained(timer_id: object) -> dict[str, Any]:
    client = Client(raise_request_exception=False)
    answer = client.get(f"/timer/{timer_id}/explain")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    assert set(found) == {"summary", "events", "next"}
    return found


def summary(timer_id: object) -> str:
    return plain(explained(timer_id)["summary"])


def happened(timer_id: object) -> list[tuple[str, str]]:
    events = explained(timer_id)["events"]
    assert events == sorted(events, key=lambda each: each["at"])
    return [(each["what"], plain(each["detail"])) for each in events]


def comes(timer_id: object) -> tuple[str, str]:
    """Return which column of the row has the time of what comes next."""
    then = explained(timer_id)["next"]
    found = row(UUID(str(timer_id)))
    names = [
        name for name in ("next_at", "leased_until")
        if found[name] and found[name].isoformat(timespec="milliseconds")
        == then["at"].replace("Z", "+00:00")
    ]
    return names[0], plain(then["what"])


def ask(method: str, path: str, **body: Any) -> None:
    """Have the API do something, and let it succeed."""
    client = Client(raise_request_exception=False)
    answer = client.generic(
        method, path, json.dumps(body) if body else "",
        content_type="application/json",
    )
    assert answer.status_code < 300, answer.content
