"""What a webhook's creator wants sent."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """A request without its URL.

    headers  as given, None when none are
    body     the bytes to send; None stands for the default body, or none
    """

    method: str = "POST"
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
