"""Celery with `countdown`; `python -m celery` runs this module's task."""

import os

from celery import Celery

from tests.load.bench.rivals.calls import call, due_in, new_id

app = Celery(broker=os.environ["RABBITMQ_URL"])
app.conf.update(
    task_ignore_result=True,
    # A 201 means stored: without this, a publish is not even answered.
    broker_transport_options={"confirm_publish": True},
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)
task = app.task(call, name="call")


def prepare() -> None:
    """Make nothing: workers declare their queue."""


def serve() -> None:
    """Begin nothing."""


def create(seconds: int, url: str) -> str:
    """Send a task with a countdown."""
    timer_id = new_id()
    task.apply_async((timer_id, due_in(seconds), url), countdown=seconds)
    return timer_id


def seed(count: int, seconds: int, url: str) -> None:
    """Set many timers; a negative number of seconds is past."""
    for _ in range(count):
        create(seconds, url)
