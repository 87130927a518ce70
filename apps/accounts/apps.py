"""Django's entry for the accounts application."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Registers the application and its check of the settings."""

    name = "apps.accounts"

    def ready(self) -> None:
        """Register the check."""
        from apps.accounts import checks  # noqa: F401
