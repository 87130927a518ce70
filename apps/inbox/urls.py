"""The inboxes' URLs."""

from django.urls import path, register_converter

from apps.inbox import views
from apps.inbox.storage import NAME


class Name:
    """An inbox's name, as it stands in a path."""

    regex = NAME

    def to_python(self, value: str) -> str:
        """Return the name."""
        return value

    def to_url(self, value: str) -> str:
        """Return the name, which needs no escape."""
        return value


register_converter(Name, "inbox")

urlpatterns = [
    path("inbox", views.first),
    path("inbox/", views.first),
    path("inbox/<inbox:name>", views.inbox),
    path("inbox/<inbox:name>/calls", views.calls),
    path("inbox/<inbox:name>/newer", views.newer),
    path("inbox/<inbox:name>/answer", views.set_answer),
    path("inbox/<inbox:name>/timer", views.set_timer),
]
