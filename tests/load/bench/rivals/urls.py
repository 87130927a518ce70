"""One endpoint, the service's own in its shape, over the rival chosen."""

import os
from importlib import import_module
from typing import Any

from django.http import HttpRequest
from django.urls import path
from ninja import NinjaAPI, Schema, Status

# Which of this package's modules sets the timers.
rival: Any = import_module(f"tests.load.bench.rivals.{os.environ['RIVAL']}")
rival.serve()
api = NinjaAPI(docs_url=None)


class TimerIn(Schema):
    """A timer to be set."""

    hours: int
    minutes: int
    seconds: int
    url: str


class TimerCreated(Schema):
    """The answer to a timer that was set."""

    id: str
    time_left: int


@api.post("/timer", response={201: TimerCreated})
def create_timer(request: HttpRequest, body: TimerIn) -> Status[TimerCreated]:
    """Set a timer."""
    seconds = body.hours * 3600 + body.minutes * 60 + body.seconds
    timer_id = rival.create(seconds, body.url)
    return Status(201, TimerCreated(id=timer_id, time_left=seconds))


urlpatterns = [path("", api.urls)]
