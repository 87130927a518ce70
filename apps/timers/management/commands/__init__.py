"""Django's management commands of the timers application."""
