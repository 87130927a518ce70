"""The URLs under which workers reach inboxes."""

from urllib.parse import urlsplit

from django.conf import settings

from apps.inbox.storage import Answer


def url(name: str) -> str:
    """Return the URL whose calls web answers."""
    return f"{settings.INBOX}/inbox/{name}"


def url_for(name: str, answer: Answer) -> str:
    """Return the URL to call for this answer."""
    port = settings.INBOX_RESET_PORT
    if answer.answer != "reset" or not port:
        return url(name)
    host = urlsplit(settings.INBOX).hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/inbox/{name}"
