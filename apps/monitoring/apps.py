"""Django's entry for the monitoring application."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Registers the application."""

    name = "apps.monitoring"
