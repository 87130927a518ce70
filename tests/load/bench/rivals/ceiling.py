"""Does nothing: what is left is the web server, Django and Ninja."""

from tests.load.bench.rivals.calls import new_id


def prepare() -> None:
    """Make nothing."""


def serve() -> None:
    """Begin nothing."""


def create(seconds: int, url: str) -> str:
    """Store nothing."""
    return new_id()
