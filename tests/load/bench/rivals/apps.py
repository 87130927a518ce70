"""The application that Django knows these modules as."""

from django.apps import AppConfig


class Rivals(AppConfig):
    """Has one table, the textbook version's."""

    name = "tests.load.bench.rivals"
    label = "rivals"
