"""The id of a request: its own X-Request-Id, or one that is made for it."""

import random
import re
from contextvars import ContextVar

#: Of the request that this thread answers; None between requests.
CURRENT: ContextVar[str | None] = ContextVar("request_id", default=None)

_SANE = re.compile(r"[ -~]{1,128}")


def chosen(given: str | None) -> str:
    """Return the id that a request brings, or another one.

    It has to be printable ASCII of at most 128 characters.
    """
    if given is not None and _SANE.fullmatch(given):
        return given
    # It need not be secret, and os.urandom takes four times as long.
    return f"{random.getrandbits(128):032x}"
