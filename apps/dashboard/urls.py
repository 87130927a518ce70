"""The dashboard's URLs."""

from django.urls import path

from apps.dashboard import (
    ahead,
    finding,
    gave_up,
    hosts,
    keys,
    many,
    now,
    numbers,
    timer,
)

urlpatterns = [
    path("dashboard/now", now.news),
    path("dashboard/now/lateness", numbers.lateness),
    path("dashboard/hosts", hosts.hosts),
    path("dashboard/ahead", ahead.ahead),
    path("dashboard/gave-up", gave_up.gave_up),
    path("dashboard/gave-up/replay", gave_up.replay),
    path("dashboard/keys", keys.keys),
    path("dashboard/keys/new", keys.create),
    path("dashboard/keys/<str:prefix>/revoke", keys.revoke),
    path("dashboard/timers", finding.timers),
    path("dashboard/timers/suggest/<str:field>", finding.suggestions),
    path("dashboard/timers/<str:action>", many.many),
    path("dashboard/timer/<uuid:timer_id>", timer.timer),
    path("dashboard/timer/<uuid:timer_id>/changed", timer.changed),
    path("dashboard/timer/<uuid:timer_id>/<str:action>", timer.act),
]
