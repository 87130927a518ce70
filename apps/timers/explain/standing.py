"""How a timer stands: some sentences, and what comes next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Next:
    """What happens next; if `at` is in the past, as soon as it can be."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a timer stands; `next` is None once it has ended."""

    sentences: Sequence[str]
    next: Next | None = None
