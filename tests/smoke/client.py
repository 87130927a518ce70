"""The API as an outsider uses it, and what both smoke tests say."""

import json
import sys
import time
import urllib.request
from typing import NoReturn


class Api:
    """The service on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        """Return whether the service answers and is ready."""
        try:
            with urllib.request.urlopen(f"{self._base}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def set_timer(self, seconds: int, url: str) -> str:
        """Set a timer and return its id."""
        body = {"hours": 0, "minutes": 0, "seconds": seconds, "url": url}
        request = urllib.request.Request(
            f"{self._base}/timer",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["id"])


def say(text: str) -> None:
    """Print a step that went well."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End with a sentence."""
    sys.exit(f"smoke test failed: {text}")
