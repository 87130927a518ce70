"""Django's entry for the dashboard."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Registers the application: its templates and static files."""

    name = "apps.dashboard"
