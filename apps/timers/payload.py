"""The body that a webhook has if its creator gave none."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID


class Timed(Protocol):
    """What the body says of a timer."""

    @property
    def id(self) -> UUID: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102
    @property
    def due_at(self) -> datetime: ...  # noqa: D102
    @property
    def labels(self) -> Mapping[str, str] | None: ...  # noqa: D102


def default_body(timer: Timed) -> bytes:
    """Return the body, in the shape that Standard Webhooks describes.

    https://github.com/standard-webhooks/standard-webhooks
    """
    due_at = timer.due_at.isoformat(timespec="microseconds")
    created_at = timer.created_at.isoformat(timespec="microseconds")
    body = {
        "id": str(timer.id),
        "type": "timer.expired",
        "timestamp": due_at,
        "data": {
            "id": str(timer.id),
            "created_at": created_at,
            "fire_at": due_at,
            **({"labels": timer.labels} if timer.labels else {}),
        },
    }
    return json.dumps(body).encode()
