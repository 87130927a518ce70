"""The dashboard's URLs."""

from django.urls import path

from apps.dashboard import finding, gave_up, hosts, now, numbers, timer

urlpatterns = [
    path("dashboard/now", now.news),
    path("dashboard/now/lateness", numbers.lateness),
    path("dashboard/hosts", hosts.hosts),
    path("dashboard/gave-up", gave_up.gave_up),
    path("dashboard/gave-up/replay", gave_up.replay),
    path("dashboard/timers", finding.timers),
    path("dashboard/timer/<uuid:timer_id>", timer.timer),
    path("dashboard/timer/<uuid:timer_id>/changed", timer.changed),
    path("dashboard/timer/<uuid:timer_id>/<str:action>", timer.act),
]
