"""APScheduler 3 with a job store in Postgres, inside the web process.

Two schedulers can't share a job store, so there is one web process.
"""

import os
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from tests.load.bench.rivals.calls import call, due_in, new_id

_THREADS = 64


def _scheduler() -> BackgroundScheduler:
    url = os.environ["DATABASE_URL"].replace("://", "+psycopg://", 1)
    return BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=url)},
        executors={"default": ThreadPoolExecutor(_THREADS)},
        # Else it drops what is late by a second.
        job_defaults={"misfire_grace_time": None},
        timezone=UTC,
    )


scheduler = _scheduler()


def prepare() -> None:
    """Make nothing: the job store makes its table."""


def serve() -> None:
    """Begin to run what is due."""
    scheduler.start()


def create(seconds: int, url: str) -> str:
    """Add a job."""
    timer_id, due = new_id(), due_in(seconds)
    scheduler.add_job(
        call,
        "date",
        run_date=datetime.fromtimestamp(due, UTC),
        args=(timer_id, due, url),
    )
    return timer_id


def seed(count: int, seconds: int, url: str) -> None:
    """Set many timers; a negative number of seconds is past."""
    scheduler.start(paused=True)
    for _ in range(count):
        create(seconds, url)
