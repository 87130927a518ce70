"""GET /timer/{id}, errors, documents and probes; Postgres away."""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from apps.core import database
from apps.timers import services
from apps.timers.models import Outcome
from apps.timers.storage import claiming, recording, replaying
from apps.timers.storage.claim_records import Mark
from tests.support.accounts import OWNER
from tests.support.ports import free_port
from tests.support.rows import (
    change,
    claimed,
    new_timer,
    postponement,
    report,
)

BODY = json.dumps(
    {"hours": 0, "minutes": 0, "seconds": 5, "url": "https://example.com/"}
)


@pytest.fixture(autouse=True)
def standalone(db_pool: None, settings: Settings) -> None:
    """Leave the timers in Postgres."""
    settings.RABBITMQ_URL = ""


def get(path: str, **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    return client.get(path, headers=headers)


def create() -> Any:
    return Client().post("/timer", BODY, content_type="application/json")


def cancel() -> Any:
    return Client().delete(f"/timer/{uuid4()}")


def look(timer_id: object) -> dict[str, Any]:
    answer = get(f"/timer/{timer_id}")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_a_timer_tells_how_it_stands_all_its_life() -> None:
    # Given a timer that waits
    timer_id = new_timer(30)
    assert look(timer_id)["status"] == "scheduled"
    assert look(timer_id)["time_left"] == 30

    # When it is overdue and not yet claimed
    change(timer_id, "due_at = now() - interval '2 s', next_at = now()")
    assert look(timer_id)["status"] == "scheduled"
    assert look(timer_id)["time_left"] == 0

    # When it could not be sent, and waits for its next try
    change(timer_id, "attempts = 1, error = 'refused: x'")
    assert look(timer_id)["status"] == "retrying"
    assert look(timer_id)["error"] == "refused: x"

    # When it is claimed and its request has left
    claim = claimed(timer_id)
    assert look(timer_id)["status"] == "firing"
    assert look(timer_id)["fired_at"] is not None
    assert look(timer_id)["late_ms"] is None
    claiming.mark_sent([Mark(claim.id, claim.token, claim.clock.database)])
    assert look(timer_id)["status"] == "firing"
    late = (claim.clock.database - claim.due_at).total_seconds() * 1000
    assert look(timer_id)["late_ms"] == pytest.approx(late)

    # When the answer is recorded
    recording.record([report(claim)])
    found = look(timer_id)
    assert (found["status"], found["status_code"]) == ("delivered", 200)
    assert found["error"] is None


def test_a_timer_is_deferred_whatever_its_error_says() -> None:
    # Given a timer whose destination took no call
    timer_id = new_timer(-1)
    put_off = replace(
        postponement(claimed(timer_id)), attempt=None, error="any reason"
    )
    recording.postpone([put_off])
    assert look(timer_id)["status"] == "deferred"

    # When it is claimed again, and can't be connected to
    refused = replace(postponement(claimed(timer_id)), error="busy: not so")
    recording.postpone([refused])

    # Then it is deferred no more
    assert look(timer_id)["status"] == "retrying"


def test_what_is_replayed_is_deferred_no_more() -> None:
    # Given a timer that was deferred until it was missed
    timer_id = new_timer(-1)
    change(timer_id, "deferred = true, outcome = 'missed'")
    assert look(timer_id)["status"] == "missed"

    # When it is replayed
    assert replaying.replay_one(OWNER, timer_id)

    # Then it waits
    assert look(timer_id)["status"] == "scheduled"


@pytest.mark.parametrize("outcome", Outcome.values)
def test_each_outcome_is_a_status(outcome: str) -> None:
    timer_id = new_timer(-1)
    change(timer_id, f"outcome = '{outcome}', error = 'refused: x'")
    found = look(timer_id)
    assert (found["status"], found["error"]) == (outcome, "refused: x")


@pytest.mark.parametrize(
    ("timer_id", "status"),
    [
        (str(uuid4()), 404),
        ("5", 422),
        ("x" * 3000, 422),
        ("%00", 422),
        ("%ff", 422),
        ("a%2fb", 404),
        ("", 404),
    ],
)
def test_an_id_that_is_unknown_or_none(timer_id: str, status: int) -> None:
    answer = get(f"/timer/{timer_id}")
    assert answer.status_code == status
    error = answer.json()
    if status == 422:
        assert [each["field"] for each in error["errors"]] == ["timer_uuid"]
        assert "UUID" in error["errors"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/timer", "POST"),
        ("PUT", "/timer", "POST"),
        ("HEAD", "/timer", "POST"),
        ("OPTIONS", "/timer", "POST"),
        ("PUT", f"/timer/{uuid4()}", "DELETE, GET, HEAD, PATCH"),
        ("POST", f"/timer/{uuid4()}", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/timers", "GET, HEAD, POST"),
        ("GET", "/timers/replay", "POST"),
        ("PATCH", "/livez", "GET, HEAD"),
        ("NOTHING", "/readyz", "GET, HEAD"),
    ],
)
def test_other_methods_are_405_and_say_which_are_allowed(
    method: str, path: str, allowed: str
) -> None:
    answer = Client().generic(method, path)
    assert answer.status_code == 405
    assert ", ".join(sorted(answer["Allow"].split(", "))) == allowed
    assert answer["Content-Type"] == "application/json"
    if method != "HEAD":
        assert answer["Allow"] in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/timer/", 404),
        ("/api", 404),
        ("/static/ninja/nothing.js", 404),
        ("/static/ninja/", 404),
        ("/static/ninja/../../settings.py", 404),
        ("/static/ninja//etc/passwd", 404),
    ],
)
def test_what_is_not_there_is_an_error_in_json(
    path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"detail", "errors"}
    assert not caplog.records


def test_only_hosts_that_are_ours_are_served(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["timers.example"]
    for host, status in (
        ("timers.example", 200), ("timers.example:8000", 200),
        ("evil.example", 400), ("127.0.0.1", 400), ("a b", 400),
    ):
        assert get("/api/openapi.json", host=host).status_code == status
    # Probes come with the addresses of containers.
    assert get("/livez", host="10.1.2.3").status_code == 200
    assert get("/readyz", host="10.1.2.3").status_code == 200
    answer = get("/timer/x", host="evil.example")
    assert "ALLOWED_HOSTS" in answer.json()["detail"]


def test_a_host_that_is_ours_opens_the_door_to_no_other(
    settings: Settings,
) -> None:
    settings.ALLOWED_HOSTS = ["timers.example"]
    one_process = Client()
    for _ in range(2):
        for host, status in ("timers.example", 200), ("evil.example", 400):
            answer = one_process.get(
                "/api/openapi.json", headers={"Host": host}
            )
            assert answer.status_code == status


def test_the_documents_are_served_with_debug_off(settings: Settings) -> None:
    assert settings.DEBUG is False
    page = get("/api/docs").content.decode()
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"/static/ninja/{asset}" in page
        assert get(f"/static/ninja/{asset}").status_code == 200
    assert "://" not in page.replace("http://www.w3.org", "")


def test_the_api_document_says_what_is_true() -> None:
    document = get("/api/openapi.json").json()
    operation = document["paths"]["/timer"]["post"]
    assert set(operation["responses"]) == {
        "200", "201", "400", "401", "403", "408", "409", "413", "414", "422",
        "429", "503",
    }
    schemas = document["components"]["schemas"]
    body = schemas["TimerIn"]
    assert set(body["required"]) == {"url"}
    assert body["additionalProperties"] is False
    number, null = body["properties"]["hours"]["anyOf"]
    assert (number["type"], number["minimum"]) == ("integer", 0)
    assert null == {"type": "null"}
    assert body["properties"]["url"]["maxLength"] == 2048
    assert schemas["ErrorOut"]["properties"].keys() == {
        "detail", "errors", "id",
    }
    look_up = document["paths"]["/timer/{timer_uuid}"]["get"]
    assert set(look_up["responses"]) == {
        "200", "400", "401", "403", "404", "414", "422", "503",
    }
    cancel = document["paths"]["/timer/{timer_uuid}"]["delete"]
    assert set(cancel["responses"]) == {
        "204", "400", "401", "403", "404", "409", "412", "414", "422", "503",
    }


def test_an_error_of_our_own_is_json_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(services, "get_timer", fail)
    answer = get(f"/timer/{uuid4()}")
    assert answer.status_code == 500
    assert set(answer.json()) == {"detail", "errors"}
    assert b"secret" not in answer.content


# --- Postgres away --------------------------------------------------------

@pytest.fixture(params=["refuses", "never answers"])
def postgres_away(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Let Postgres be a closed port, or one that accepts and is silent."""
    arguments = database.connection_arguments()
    port = free_port()
    silent = None
    if request.param == "never answers":
        silent = socket.create_server(("127.0.0.1", 0))
        port = silent.getsockname()[1]
    database.close_pool()
    monkeypatch.setattr(
        database,
        "connection_arguments",
        lambda: {**arguments, "host": "127.0.0.1", "port": str(port)},
    )
    yield
    database.close_pool()
    if silent is not None:
        silent.close()


@pytest.mark.usefixtures("postgres_away")
@pytest.mark.parametrize(
    "send", [create, lambda: get(f"/timer/{uuid4()}"), cancel]
)
def test_without_postgres_the_answer_is_503_within_seconds(
    send: Callable[[], Any],
) -> None:
    began = time.monotonic()
    answer = send()
    assert time.monotonic() - began < 3
    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    assert "Postgres" in answer.json()["detail"]


def test_a_server_that_only_reads_is_as_good_as_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as the old primary, after a failover."""
    arguments = database.connection_arguments()
    database.close_pool()
    monkeypatch.setattr(
        database,
        "connection_arguments",
        lambda: {
            **arguments, "options": "-c default_transaction_read_only=on"
        },
    )
    answer = create()
    database.close_pool()
    assert answer.status_code == 503


@pytest.mark.usefixtures("postgres_away")
def test_without_postgres_the_service_lives_and_is_unready() -> None:
    assert get("/livez").json() == {"status": "ok"}
    answer = get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "unready", "postgres": "away", "rabbitmq": "not used",
    }


def test_postgres_is_found_again_at_once(
    postgres_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create().status_code == 503
    pool = database.pool()
    monkeypatch.undo()
    pool.kwargs = {
        **database.connection_arguments(), "autocommit": True
    }
    began = time.monotonic()
    while create().status_code == 503:
        assert time.monotonic() - began < 5
    assert database.pool() is pool


def test_readyz_tells_postgres_and_rabbitmq_apart(settings: Settings) -> None:
    assert get("/readyz").json() == {
        "status": "ok", "postgres": "ok", "rabbitmq": "not used",
    }
