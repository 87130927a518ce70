"""A client that a tool makes from the API's document can do everything."""

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from config.api import api
from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually

KEY = "orders/17 ü"


def operations() -> dict[str, str]:
    """Return the operations of the API's document, by their ids."""
    return {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, operations in api.document["paths"].items()
        for method, operation in operations.items()
    }


class Generated:
    """The client that openapi-python-client makes of a service."""

    def __init__(self, service: Service, directory: Path) -> None:
        generate(service, directory / "timer_client")
        self.package: Any = importlib.import_module("timer_client")
        self.models: Any = importlib.import_module("timer_client.models")
        self._client = self.package.Client(
            base_url=f"http://127.0.0.1:{service.port}",
            raise_on_unexpected_status=True,
        )
        self.modules = {
            found.name.rpartition(".")[2]: importlib.import_module(found.name)
            for found in pkgutil.walk_packages(
                self.package.__path__, "timer_client."
            )
        }

    def call(self, name: str, *path: object, **given: object) -> Any:
        """Call an operation; return the status and what was answered."""
        answer = self.modules[name].sync_detailed(
            *path, client=self._client, **given
        )
        return answer.status_code, answer.parsed, answer.headers

    def timer(self, timer_id: UUID) -> Any:
        """Return a timer as it stands now."""
        status, timer, _ = self.call("get_timer", timer_id)
        assert status == 200
        return timer

    def ends_as(self, timer_id: UUID, status: str) -> None:
        """Wait until a timer has a status."""
        eventually(lambda: self.timer(timer_id).status == status)


def generate(service: Service, package: Path) -> None:
    """Generate a client; assert that the tool has nothing to say of it."""
    config = package.with_suffix(".yml")
    config.write_text("post_hooks: []\n")  # it would format the code
    done = subprocess.run(
        [
            sys.executable, "-m", "openapi_python_client", "generate",
            "--url", f"http://127.0.0.1:{service.port}/api/openapi.json",
            "--meta", "none", "--output-path", str(package),
            "--config", str(config), "--fail-on-warning",
        ],
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip() == f"Generating {package}"


@pytest.fixture
def generated(
    make_service: Callable[..., Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Generated:
    monkeypatch.syspath_prepend(tmp_path)
    service = make_service()
    service.start_all()
    return Generated(service, tmp_path)


def test_a_generated_client_drives_a_timer_all_its_life(
    generated: Generated, receiver: Receiver
) -> None:
    # Given a client that was made without a warning, with all operations
    assert generated.modules.keys() >= operations().keys()

    # When a timer is set, changed, fired, replayed and one is cancelled
    timer_id = is_set_once(generated)
    is_changed(generated, timer_id, receiver.url())
    fails(generated, timer_id, receiver)
    is_replayed(generated, timer_id, receiver)
    another_is_cancelled(generated)

    # Then it was called twice, and errors and probes can be read
    assert generated.call("livez")[0] == 200
    eventually(lambda: generated.call("readyz")[1].status == "ok")
    assert receiver.counts() == {str(timer_id): 2}
    errors_are_parsed(generated)


def is_set_once(generated: Generated) -> UUID:
    models = generated.models
    wanted = models.TimerIn(
        url="https://example.com/first",
        hours=1, minutes=0, seconds=0,
        key=KEY,
        labels=models.TimerInLabelsType0.from_dict({"user": "17"}),
    )

    def create(request_key: str) -> Any:
        return generated.call(
            "create_timer", body=wanted, idempotency_key=request_key
        )

    status, created, headers = create("first")
    assert (status, created.time_left) == (201, 3600)
    assert headers["location"] == f"/timer/{created.id}"

    # The same request is answered as before; another one finds the key taken
    status, again, _ = create("first")
    assert (status, again) == (200, created)
    status, error, _ = create("second")
    assert (status, error.id) == (409, created.id)
    return UUID(str(created.id))


def is_changed(generated: Generated, timer_id: UUID, url: str) -> None:
    models = generated.models
    status, timer, headers = generated.call("get_timer_by_key", KEY)
    assert (status, timer.id, timer.key) == (200, timer_id, KEY)
    assert timer.status is models.TimerOutStatus.SCHEDULED
    assert timer.labels.to_dict() == {"user": "17"}

    # By its id, if nobody changed it meanwhile
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    tag = headers["etag"]

    def patch(**changes: object) -> Any:
        return generated.call(
            "change_timer", timer_id, body=models.PatchIn(**changes),
            if_match=tag,
        )

    status, timer, headers = patch(fire_at=later, labels=None)
    assert (status, timer.fire_at, timer.labels) == (200, later, None)
    assert headers["etag"] != tag
    status, error, _ = patch(max_lateness=60)
    assert (status, error.errors) == (412, [])

    # By its key
    status, timer, _ = generated.call(
        "put_timer_by_key", KEY,
        body=models.PutIn(
            url=url, hours=2, minutes=0, seconds=0,
            method=models.PutInMethod.PUT, body={"state": "expired"},
        ),
    )
    assert (status, timer.id, timer.url) == (200, timer_id, url)
    assert (timer.time_left, timer.method) == (7200, "PUT")


def fails(generated: Generated, timer_id: UUID, receiver: Receiver) -> None:
    receiver.status, receiver.answer = 500, b"Out of order."
    status, timer, _ = generated.call("fire_timer", timer_id)
    assert (status, timer.time_left) == (202, 0)
    generated.ends_as(timer_id, "failed")
    assert receiver.calls[0].payload == {"state": "expired"}

    status, found, _ = generated.call("get_attempts", timer_id)
    assert status == 200
    (attempt,) = found.attempts
    assert (attempt.number, attempt.status_code) == (1, 500)
    assert attempt.answer == "Out of order."
    assert attempt.sent_at >= attempt.due_at

    listing = next(
        name for name, at in operations().items() if at == "GET /timers"
    )
    status, page, _ = generated.call(listing)
    assert status == 200
    assert timer_id in [each.id for each in page.timers]

    # What has ended can't be changed any more
    refusals = [
        generated.call("fire_timer", timer_id),
        generated.call("cancel_timer", timer_id),
        generated.call(
            "change_timer", timer_id,
            body=generated.models.PatchIn(max_lateness=60),
        ),
    ]
    assert [status for status, _, _ in refusals] == [409] * 3
    assert all(error.detail for _, error, _ in refusals)


def is_replayed(
    generated: Generated, timer_id: UUID, receiver: Receiver
) -> None:
    receiver.status = 200
    status, timer, _ = generated.call("replay_timer", timer_id)
    assert (status, timer.id) == (202, timer_id)
    generated.ends_as(timer_id, "delivered")
    status, error, _ = generated.call("replay_timer", timer_id)
    assert status == 409
    assert "did not give up" in error.detail


def another_is_cancelled(generated: Generated) -> None:
    wanted = generated.models.PutIn(
        url="https://example.com/second", hours=1, minutes=0, seconds=0
    )
    status, timer, _ = generated.call("put_timer_by_key", KEY, body=wanted)
    assert status == 201
    assert generated.call("cancel_timer_by_key", KEY)[:2] == (204, None)
    status, error, _ = generated.call("get_timer_by_key", KEY)
    assert status == 404
    assert KEY in error.detail
    assert generated.timer(timer.id).status == "cancelled"


def errors_are_parsed(generated: Generated) -> None:
    status, error, _ = generated.call("get_timer", uuid4())
    assert (status, error.errors) == (404, [])
    status, error, _ = generated.call(
        "create_timer",
        body=generated.models.TimerIn(
            url="https://example.com/hook", hours=0, minutes=0, seconds=-1
        ),
    )
    assert status == 422
    assert [each.field for each in error.errors] == ["seconds"]
    assert "whole number" in error.errors[0].message
