"""Django's entry for the timers application."""

from django.apps import AppConfig


class TimersConfig(AppConfig):
    """Registers the application and its checks of Postgres."""

    name = "apps.timers"

    def ready(self) -> None:
        """Register the checks that `migrate` runs against Postgres."""
        from apps.timers import checks  # noqa: F401
