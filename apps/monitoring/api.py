"""Probes: whether the process is alive, and whether it has what it needs."""

from datetime import datetime
from typing import Literal

import psycopg
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router, Status
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, ConfigDict

from apps.broker.interface import ON_TIME, get_broker
from apps.core.database import UNAVAILABLE, Connection, pool
from apps.core.fitness import unfit
from apps.core.outages import RABBITMQ_AWAY, describe
from apps.monitoring import processes
from apps.monitoring.metrics.exposition import all_numbers
from apps.monitoring.upkeep import UPKEEP

router = Router(tags=["health"])

Part = Literal["ok", "away", "unfit", "not used"]


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "ok"}}
    )

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be served, and what is wrong if not.

    Without RabbitMQ, or while dispatchers or workers can't do their work,
    timers are still taken, and wait in Postgres: that is `degraded`. So it is
    while the operator holds all calls (`held_since`), and while Postgres is
    kept from cleaning up. Without Postgres, or with one that takes no writes,
    nothing works: `unready`. `troubles` is there when there are any.
    """

    model_config = ConfigDict(json_schema_extra={"example": {
        "status": "ok", "postgres": "ok", "rabbitmq": "ok",
    }})

    status: Literal["ok", "degraded", "unready"] = "ok"
    postgres: Part
    rabbitmq: Part
    held_since: datetime | None = None
    troubles: list[str] | None = None


@router.get("/livez", response=Alive, summary="Is the process alive?")
def livez(request: HttpRequest) -> Alive:
    """Touch nothing and answer."""
    return Alive()


@router.get(
    "/readyz",
    response={200: Readiness, 503: Readiness},
    exclude_none=True,
    summary="Can requests be served?",
)
def readyz(request: HttpRequest) -> Status[Readiness]:
    """Ask Postgres and RabbitMQ; 503 only when Postgres can't serve."""
    found = readiness()
    return Status(503 if found.status == "unready" else 200, found)


def readiness() -> Readiness:
    """Return whether requests can be served, and what is wrong if not."""
    rabbitmq = _rabbitmq()
    found = Readiness(postgres="ok", rabbitmq=rabbitmq)
    try:
        with pool().connection() as connection:
            _look(connection, found)
    except UNAVAILABLE:
        found.postgres = "away"
    if found.postgres != "ok":
        found.status = "unready"
    elif rabbitmq == "away" or found.troubles:
        found.status = "degraded"
    return found


@router.get(
    "/metrics",
    summary="Read the numbers",
    openapi_extra={"responses": {200: {
        "description": "All metrics, each with its type and a sentence.",
        "content": {"text/plain": {
            "schema": {"type": "string"},
            "example": "# HELP timers_created_total Timers that were stored."
            "\n# TYPE timers_created_total counter"
            "\ntimers_created_total 17.0\n",
        }},
    }}},
)
def metrics(request: HttpRequest) -> HttpResponse:
    """Return what this server's web processes count, for Prometheus.

    An API key needs the scope `metrics`.
    """
    text = generate_latest(all_numbers())
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _look(connection: Connection, found: Readiness) -> None:
    """Note whether Postgres can serve, and how other processes are."""
    if reason := unfit(connection) or _unreadable(connection):
        found.postgres, found.troubles = "unfit", [reason]
        return
    roles = ["dispatcher", "worker"] if settings.RABBITMQ_URL else ["worker"]
    known = RABBITMQ_AWAY if found.rabbitmq == "away" else None
    troubles = processes.troubles(connection, roles, known=known)
    found.troubles = [
        *_held(connection, found), *troubles, *UPKEEP.troubles(connection),
    ] or None


def _held(connection: Connection, found: Readiness) -> list[str]:
    """Note whether the operator holds all calls; return that as a trouble."""
    try:
        row = connection.execute("SELECT since, reason FROM hold").fetchone()
    except psycopg.ProgrammingError as error:
        return [
            "nothing is called, since the table `hold` can't be read: run"
            f" `manage.py migrate` ({describe(error)})"
        ]
    if row is None:
        return []
    found.held_since, reason = row
    why = f": {reason}" if reason else ""
    return [f"all calls are held until `manage.py release`{why}"]


def _unreadable(connection: Connection) -> str | None:
    try:
        connection.execute("SELECT FROM timer LIMIT 1")
    except psycopg.errors.UndefinedTable:
        return "there is no table of timers: run `manage.py migrate`"
    except psycopg.ProgrammingError as error:
        return f"the table of timers can't be read: {describe(error)}"
    return None


def _rabbitmq() -> Part:
    if not settings.RABBITMQ_URL:
        return "not used"
    return "away" if get_broker().depth(ON_TIME) is None else "ok"
