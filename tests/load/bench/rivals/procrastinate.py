"""Procrastinate with `schedule_in`; its own command runs the task."""

import os

from procrastinate import App, PsycopgConnector

from tests.load.bench.rivals.calls import call, due_in, new_id

app = App(
    connector=PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=16
    )
)
task = app.task(call, name="call")


def prepare() -> None:
    """Make its tables."""
    with app.open():
        app.schema_manager.apply_schema()


def serve() -> None:
    """Connect a web process."""
    app.open()


def create(seconds: int, url: str) -> str:
    """Defer a job."""
    timer_id = new_id()
    later = task.configure(schedule_in={"seconds": seconds})
    later.defer(timer_id=timer_id, due=due_in(seconds), url=url)
    return timer_id


def seed(count: int, seconds: int, url: str) -> None:
    """Set many timers; a negative number of seconds is past."""
    later = task.configure(schedule_in={"seconds": seconds})
    due = due_in(seconds)
    with app.open():
        for start in range(0, count, 1000):
            later.batch_defer(
                *(
                    {"timer_id": new_id(), "due": due, "url": url}
                    for _ in range(min(1000, count - start))
                )
            )
