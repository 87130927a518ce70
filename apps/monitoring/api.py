"""Probes: whether the process is alive, and what it needs is there."""

from typing import Literal

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Status
from pydantic import BaseModel

from apps.broker.current import get_broker
from apps.timers.database import UNAVAILABLE, pool

router = Router(tags=["health"])

Part = Literal["ok", "away", "not used"]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be served, and what is away if not.

    Without RabbitMQ timers are still taken, and wait in Postgres: that is
    `degraded`. Without Postgres nothing works: `unready`.
    """

    status: Literal["ok", "degraded", "unready"] = "ok"
    postgres: Part
    rabbitmq: Part


@router.get("/livez", response=Alive, summary="Is the process alive?")
def livez(request: HttpRequest) -> Alive:
    """Touch nothing and answer."""
    return Alive()


@router.get(
    "/readyz",
    response={200: Readiness, 503: Readiness},
    summary="Can requests be served?",
)
def readyz(request: HttpRequest) -> Status[Readiness]:
    """Ask Postgres and RabbitMQ; 503 only when Postgres is away."""
    found = Readiness(postgres=_postgres(), rabbitmq=_rabbitmq())
    if found.postgres == "away":
        found.status = "unready"
        return Status(503, found)
    if found.rabbitmq == "away":
        found.status = "degraded"
    return Status(200, found)


def _postgres() -> Part:
    try:
        with pool().connection() as connection:
            connection.execute("SELECT FROM timer LIMIT 1")
    except UNAVAILABLE:
        return "away"
    return "ok"


def _rabbitmq() -> Part:
    if not settings.RABBITMQ_URL:
        return "not used"
    from apps.timers.actors import ON_TIME_QUEUE

    return "away" if get_broker().depth(ON_TIME_QUEUE) is None else "ok"
