"""`manage.py recover_timers`: one pass at boot."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.core.commands import needing_postgres
from apps.timers.scheduling import dispatcher
from apps.timers.storage import queueing


class Command(BaseCommand):
    """Queue the timers that a stop left behind, say how many, and exit."""

    help = (
        "Queue the timers that are overdue and did not fire (of many, as"
        " many as keep workers busy), or that are near and not queued; say"
        " how many, and exit."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one pass; fail only when Postgres is away."""
        with needing_postgres():
            sentence = _queue() if settings.RABBITMQ_URL else _wake()
        self.stdout.write(sentence)


def _queue() -> str:
    done = dispatcher.run_once()
    if done.rabbitmq_away:
        overdue, near = queueing.count_near()
        return (
            f"RabbitMQ can't be reached: {overdue} overdue and {near} near"
            " timers wait in Postgres; the dispatcher queues them when"
            f" RabbitMQ is back.{_failures(done)}"
        )
    if done.hold is not None:
        overdue, near = queueing.count_near()
        return (
            f"All calls are held: {overdue} overdue and {near} near timers"
            " wait in Postgres until `manage.py release`. Taken over from"
            f" dead workers: {done.taken_over}.{_failures(done)}"
        )
    sentence = (
        f"Queued {done.queued} timers: {done.overdue + done.lost} overdue,"
        f" {done.near} near. Taken over from dead workers: {done.taken_over}."
    )
    if done.more:
        sentence += (
            " That is enough at first: the dispatcher queues what else is"
            " overdue as the workers go on."
        )
    return sentence + _failures(done)


def _failures(done: dispatcher.Pass) -> str:
    """Return what failed; the dispatcher starts anyway, and tries it again."""
    if not done.failed:
        return ""
    found = "; ".join(f"{name}: {e}" for name, e in done.failed.items())
    return f" Not done, and tried again by the dispatcher: {found}."


def _wake() -> str:
    """Wake the workers: without RabbitMQ, they feed themselves."""
    overdue, near = queueing.count_near()
    queueing.notify()
    return (
        f"Standalone: {overdue} overdue and {near} near timers wait in"
        " Postgres; the worker takes them from there."
    )
