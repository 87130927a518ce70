"""A kept call, as the page and programs see it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from apps.accounts.signing import SigningKeys
from apps.inbox.answers import KINDS, TIMED
from apps.inbox.signature import problem
from apps.inbox.storage import Answer, Call

#: How much of a body a page shows, in characters.
_MOST_TEXT = 8192


@dataclass(frozen=True)
class ShownCall:
    """A call with what follows from it."""

    call: Call
    #: Those of whoever looks.
    keys: SigningKeys

    @cached_property
    def problem(self) -> str | None:
        """Why its signature does not verify; None if it does."""
        call = self.call
        return problem(call.headers, call.body, call.came_at, self.keys)

    @property
    def webhook_id(self) -> str | None:
        """The timer's id."""
        return self.call.headers.get("webhook-id")

    @property
    def timer(self) -> UUID | None:
        """The same, if it can be one."""
        try:
            return UUID(self.webhook_id)
        except (TypeError, ValueError):
            return None

    @property
    def attempt(self) -> str | None:
        """Which attempt it is, as the call says."""
        return self.call.headers.get("timer-attempt")

    @property
    def late_ms(self) -> float | None:
        """How long after its due time it came; None if it has none."""
        try:
            due = datetime.fromisoformat(self.call.headers["timer-due-at"])
        except (KeyError, ValueError):
            return None
        if due.tzinfo is None:
            return None
        return round((self.call.came_at - due).total_seconds() * 1000, 3)

    @cached_property
    def text(self) -> str | None:
        """The body as text; None if it is not UTF-8."""
        try:
            return self.call.body.decode()
        except UnicodeDecodeError:
            return None

    @property
    def raw(self) -> str:
        """The body as it came, or its beginning."""
        body = self.call.body
        return _cut(repr(body)[2:-1] if self.text is None else self.text)

    @property
    def pretty(self) -> str | None:
        """The body on many lines, if it is JSON; or its beginning."""
        try:
            value = json.loads(self.call.body)
        except (ValueError, RecursionError):
            return None
        return _cut(json.dumps(value, indent=2, ensure_ascii=False))

    @property
    def answered(self) -> str:
        """How it was answered, in words."""
        return words(Answer(self.call.answer, self.call.seconds))

    def as_json(self) -> Mapping[str, Any]:
        """Return it as programs see it."""
        call = self.call
        came_at = call.came_at.astimezone(UTC)
        return {
            "id": call.id,
            "came_at": came_at.isoformat().replace("+00:00", "Z"),
            "method": call.method,
            "query": call.query,
            "headers": call.headers,
            "body": self.text,
            "body_base64": base64.b64encode(call.body).decode(),
            "webhook_id": self.webhook_id,
            "attempt": self.attempt,
            "late_ms": self.late_ms,
            "verified": self.problem is None,
            "problem": self.problem,
            "answer": call.answer,
        }


def words(answer: Answer) -> str:
    """Return in words how an inbox answers."""
    text = KINDS.get(answer.answer, answer.answer)
    if answer.answer in TIMED:
        return f"{text} ({answer.seconds} s)"
    return text


def _cut(text: str) -> str:
    if len(text) <= _MOST_TEXT:
        return text
    return f"{text[:_MOST_TEXT]}… ({len(text):,} characters in all)"
