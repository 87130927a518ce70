"""What figures were measured on, and with which versions."""

import os
import platform
from importlib.metadata import version

import psutil  # type: ignore[import-untyped]
import psycopg

from tests.load.bench.sides import PROCESSES, THREADS, Ground
from tests.support.rabbitmq import Management

_PACKAGES = (
    "django", "granian", "dramatiq", "celery", "procrastinate", "apscheduler",
)


def about(ground: Ground) -> str:
    """Say it in a few sentences; the load is the one before the run."""
    with psycopg.connect(ground.postgres.url) as link:
        postgres = link.info.parameter_status("server_version")
    overview = Management(ground.rabbitmq.management_url, "/").call(
        "GET", "/overview"
    )
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{psutil.cpu_count()} cores, {platform.machine()}, everything on"
        f" one machine; its load average before: {os.getloadavg()[0]:.1f}."
        f" {PROCESSES} web processes, {PROCESSES} worker processes of"
        f" {THREADS} threads (APScheduler: one process in all)."
        f" Python {platform.python_version()}, PostgreSQL {postgres},"
        f" RabbitMQ {overview['rabbitmq_version']}, {packages}."
    )
