"""The call that every rival makes: the service's, with a pooled session."""

import time
from datetime import UTC, datetime
from uuid import uuid4

import requests
from requests.adapters import HTTPAdapter

_SESSION = requests.Session()
_SESSION.trust_env = False
_SESSION.mount("http://", HTTPAdapter(pool_maxsize=128))


def new_id() -> str:
    """Return a timer's id."""
    return str(uuid4())


def due_in(seconds: float) -> float:
    """Return the time in so many seconds, in seconds since the epoch."""
    return time.time() + seconds


def call(timer_id: str, due: float, url: str) -> int:
    """Call the URL; return the status of the answer."""
    when = datetime.fromtimestamp(due, UTC).isoformat()
    payload = {"id": timer_id, "timestamp": when}
    return _SESSION.post(url, json=payload, timeout=10).status_code
