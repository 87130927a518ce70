"""The dashboard's URLs."""

from django.urls import path

from apps.dashboard import finding, now, timer

urlpatterns = [
    path("dashboard/now", now.news),
    path("dashboard/timers", finding.timers),
    path("dashboard/timer/<uuid:timer_id>", timer.timer),
    path("dashboard/timer/<uuid:timer_id>/changed", timer.changed),
    path("dashboard/timer/<uuid:timer_id>/<str:action>", timer.act),
]
