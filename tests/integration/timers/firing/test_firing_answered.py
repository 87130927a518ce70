"""A status that is known counts, though the worker dies before its record."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from apps.timers.models import Outcome
from apps.timers.scheduling import dispatcher
from apps.timers.storage import claiming, recording, replaying, taking_over
from apps.timers.storage.claim_records import Claim, Mark
from apps.webhooks.retry import RetryPolicy
from tests.support.accounts import OWNER
from tests.support.receiver import (
    Connection,
    ScriptedReceiver,
    scripted,
)
from tests.support.rows import (
    attempts,
    change,
    claimed,
    new_timer,
    report,
    row,
)
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool", "settled")

POLICY = RetryPolicy(3, 10, 3600, unanswered=False)
LAST = RetryPolicy(1, 10, 3600, unanswered=False)

#: A worker that calls some timers at once, and has much time for bodies.
FIRE = """
import sys, uuid, django
from concurrent.futures import ThreadPoolExecutor
django.setup()
from apps.timers.firing import fire
from apps.webhooks.http import adapter
adapter.BODY_SECONDS = 60
with ThreadPoolExecutor(len(sys.argv)) as pool:
    list(pool.map(fire.fire, map(uuid.UUID, sys.argv[1:])))
"""


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Postgres have been up for long enough."""
    monkeypatch.setattr(taking_over, "SETTLE", timedelta(0))


def lose(timer_id: UUID) -> None:
    """Let a claim's lease have ended."""
    change(timer_id, "leased_until = now() - interval '1 ms'")


def lost(
    status_code: int | None, claim: Claim | None = None, **options: Any
) -> Claim:
    """Return a claim whose worker died after it had marked a status."""
    claim = claim or claimed(new_timer(-5, **options))
    sent_at = claim.clock.database
    claiming.mark_sent([Mark(claim.id, claim.token, sent_at)])
    claiming.mark_sent([Mark(claim.id, claim.token, sent_at, status_code)])
    lose(claim.id)
    return claim


@contextmanager
def without_end(status: int) -> Iterator[ScriptedReceiver]:
    """Run a receiver whose answers' bodies never end."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.sock.sendall(b"HTTP/1.1 %d X\r\n\r\n: hi\n\n" % status)
        connection.stopping.wait(60)

    with scripted(script) as server:
        yield server


def test_a_worker_that_is_killed_during_bodies(
    make_service: Callable[..., Service]
) -> None:
    outcomes = {200: "delivered", 410: "failed", 503: None}
    with ExitStack() as receivers:
        # Given a worker that has had the heads of answers
        servers: dict[UUID, tuple[int, ScriptedReceiver]] = {}
        for status, again in product(outcomes, (False, True)):
            server = receivers.enter_context(without_end(status))
            timer_id = new_timer(
                -1, url=server.url(), at_least_once=again, retry=POLICY
            )
            servers[timer_id] = status, server
        worker = make_service(WEBHOOK_TIMEOUT="10").start(
            "worker", "-c", FIRE, *map(str, servers),
            DJANGO_SETTINGS_MODULE="config.settings",
        )
        eventually(
            lambda: all(row(each)["answered"] for each in servers), within=20
        )

        # When it is killed, and its leases end
        worker.kill()
        for timer_id in servers:
            lose(timer_id)
        assert dispatcher.take_over() == len(servers)

        # Then each timer is what its receiver said
        for timer_id, (status, server) in servers.items():
            found = row(timer_id)
            assert found["outcome"] == outcomes[status]
            assert found["status_code"] == status
            assert (found["answered"], found["leased_until"]) == (None, None)
            (attempt,) = attempts(timer_id)
            assert attempt["status_code"] == status
            assert attempt["sent_at"] == found["sent_at"] is not None
            assert len(server.requests) == 1
        assert dispatcher.take_over() == 0


@pytest.mark.parametrize(
    ("status", "retry", "outcome"),
    [
        (204, None, "delivered"),
        (404, None, "failed"),
        (503, None, "failed"),
        (503, LAST, "failed"),
    ],
)
def test_a_status_ends_a_timer(
    status: int, retry: RetryPolicy | None, outcome: str
) -> None:
    claim = lost(status, retry=retry)
    assert dispatcher.take_over() == 1
    found = row(claim.id)
    assert (found["outcome"], found["status_code"]) == (outcome, status)
    assert found["error"] is None
    (attempt,) = attempts(claim.id)
    assert (attempt["number"], attempt["duration"]) == (1, None)
    assert attempt["sent_at"] == claim.clock.database


@pytest.mark.parametrize("again", [False, True])
def test_a_status_is_tried_again_if_the_timer_says_so(again: bool) -> None:
    # Given a timer whose worker died with a 503
    claim = lost(503, retry=POLICY, at_least_once=again)

    # When it is taken over
    assert dispatcher.take_over() == 1

    # Then it waits for its second call, as if the worker had lived
    found = row(claim.id)
    assert (found["outcome"], found["retries"], found["attempts"]) == (
        None, 1, 1,
    )
    assert found["fired_at"] is found["claim_token"] is None
    wait = (found["next_at"] - claim.clock.database).total_seconds()
    assert 5 <= wait < 12

    # When its second and third worker die as well, Then it has failed
    for _ in range(2):
        change(claim.id, "next_at = now()")
        lost(503, claimed(claim.id))
        assert dispatcher.take_over() == 1
    assert row(claim.id)["outcome"] == "failed"
    assert [each["number"] for each in attempts(claim.id)] == [1, 2, 3]
    assert {each["status_code"] for each in attempts(claim.id)} == {503}


def test_an_answer_is_that_of_one_claim() -> None:
    # Given a timer that was answered 503, and tried again
    claim = lost(503, retry=POLICY)
    dispatcher.take_over()
    change(claim.id, "next_at = now()")

    # When its next worker dies after the mark, Then nobody knows its answer
    lost(None, claimed(claim.id))
    assert taking_over.answered(limit=9) == []
    assert taking_over.take_over(limit=9) == [(claim.id, Outcome.UNKNOWN)]


def test_a_replay_forgets_an_answer() -> None:
    claim = lost(200)
    change(claim.id, "outcome = 'failed'")
    assert replaying.replay(OWNER, [claim.id]) == {claim.id}
    claimed(claim.id)
    lose(claim.id)
    assert taking_over.take_over(limit=9) == [(claim.id, None)]


def test_a_late_record_wins() -> None:
    # Given a timer that ended by its status
    claim = lost(200)
    dispatcher.take_over()
    assert attempts(claim.id)[0]["duration"] is None

    # When its worker was alive after all, Then what it says counts
    assert recording.record([report(claim)]) == [True]
    assert attempts(claim.id)[0]["duration"] == timedelta(0)


def test_a_record_that_came_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a worker that records right after its claim was found
    claim = lost(200)
    find = taking_over.answered

    def find_late(**options: Any) -> Any:
        found = find(**options)
        assert recording.record([report(claim)]) == [True]
        return found

    monkeypatch.setattr(taking_over, "answered", find_late)
    dispatcher.take_over()
    assert attempts(claim.id)[0]["duration"] == timedelta(0)
    assert row(claim.id)["outcome"] == "delivered"


def test_an_answered_claim_is_left_alone_until_its_lease_ends() -> None:
    claim = lost(200)
    change(claim.id, "leased_until = now() + interval '20 s'")
    assert dispatcher.take_over() == 0
    assert row(claim.id)["outcome"] is None


def test_a_bad_row_costs_only_itself() -> None:
    bad, good = lost(200), lost(200)
    change(bad.id, "method = 'BREW'")
    dispatcher.take_over()
    assert row(bad.id)["error"] == "invalid: method is 'BREW'"
    assert row(good.id)["outcome"] == "delivered"


def test_an_answer_may_come_before_all_is_sent() -> None:
    # Given a timer that was called once, and is called again
    first = lost(503, retry=POLICY)
    dispatcher.take_over()
    change(first.id, "next_at = now()")
    second = claimed(first.id)

    # When its worker dies with an answer to what had not left yet
    claiming.mark_sent([Mark(second.id, second.token, None, 410)])
    lose(second.id)
    dispatcher.take_over()

    # Then only the first call was sent
    found = row(first.id)
    assert (found["outcome"], found["sent_at"]) == (
        "failed", first.clock.database,
    )
    attempt = attempts(first.id)[1]
    assert (attempt["status_code"], attempt["sent_at"]) == (410, None)
