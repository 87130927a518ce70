"""Django's entry for the accounts application."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Registers the application, its check of the settings, and its log."""

    name = "apps.accounts"

    def ready(self) -> None:
        """Register the check, and log what is done to users."""
        from apps.accounts import checks, user_log  # noqa: F401

        user_log.connect()
