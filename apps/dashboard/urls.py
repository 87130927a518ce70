"""The dashboard's URLs."""

from django.urls import path

from apps.dashboard import now

urlpatterns = [
    path("dashboard/now", now.news),
]
