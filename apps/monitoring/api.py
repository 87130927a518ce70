"""Probes: whether the process is alive, and whether it has what it needs."""

from typing import Literal

import psycopg
from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Status
from pydantic import BaseModel, ConfigDict

from apps.broker.interface import ON_TIME, get_broker
from apps.core.database import UNAVAILABLE, Connection, pool
from apps.core.fitness import unfit
from apps.core.outages import RABBITMQ_AWAY, describe
from apps.monitoring import processes

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
    timers are still taken, and wait in Postgres: that is `degraded`.
    Without Postgres, or with one that takes no writes, nothing works:
    `unready`. `troubles` is there when there are any.
    """

    model_config = ConfigDict(json_schema_extra={"example": {
        "status": "ok", "postgres": "ok", "rabbitmq": "ok",
    }})

    status: Literal["ok", "degraded", "unready"] = "ok"
    postgres: Part
    rabbitmq: Part
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


def _look(connection: Connection, found: Readiness) -> None:
    """Note whether Postgres can serve, and how other processes are."""
    if reason := unfit(connection) or _unreadable(connection):
        found.postgres, found.troubles = "unfit", [reason]
        return
    roles = ["dispatcher", "worker"] if settings.RABBITMQ_URL else ["worker"]
    known = RABBITMQ_AWAY if found.rabbitmq == "away" else None
    troubles = processes.troubles(connection, roles, known=known)
    found.troubles = troubles or None


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
