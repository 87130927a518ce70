"""Django's entry for the inboxes."""

from django.apps import AppConfig


class InboxConfig(AppConfig):
    """Registers the application."""

    name = "apps.inbox"
