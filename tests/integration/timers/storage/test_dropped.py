"""Headers and body go with a timer's end, unless it can be replayed."""

from collections.abc import Callable
from uuid import UUID

import pytest

from apps.timers.models import GAVE_UP, Outcome
from apps.timers.storage import aside, changing, claiming, recording, replaying
from apps.timers.storage.claim_records import Claim, Mark
from apps.webhooks.request import WebhookRequest
from tests.support.accounts import OWNER, ask
from tests.support.rows import (
    attempts,
    claimed,
    database_clock,
    new_timer,
    postponement,
    report,
    row,
)

pytestmark = pytest.mark.usefixtures("db_pool")

REQUEST = WebhookRequest("PUT", {"Authorization": "Bearer abc"}, b'{"a": 1}')


def secret_timer(seconds: float = -1) -> UUID:
    return new_timer(seconds, request=REQUEST)


def has_request(timer_id: UUID) -> bool:
    """Tell whether a row has its headers and body; it has both or none."""
    found = row(timer_id)
    kept = {found["headers"] is not None, found["body"] is not None}
    assert len(kept) == 1
    return kept.pop()


def recorded(outcome: Outcome) -> UUID:
    claim = claimed(secret_timer())
    assert recording.record([report(claim, outcome)]) == [True]
    return claim.id


def cancelled_alone() -> UUID:
    timer_id = secret_timer(60)
    assert changing.cancel(OWNER, timer_id)
    return timer_id


def cancelled_with_others() -> UUID:
    timer_id = secret_timer(60)
    assert changing.cancel_many(OWNER, [timer_id]) == {timer_id}
    return timer_id


def delivered_too_late() -> UUID:
    """Return a timer that was unknown when its worker's record came."""
    claim = claimed(secret_timer())
    assert recording.record([report(claim, Outcome.UNKNOWN)]) == [True]
    assert has_request(claim.id)
    assert recording.record([report(claim)]) == [True]
    return claim.id


def delivered_by_the_dead() -> UUID:
    claim = claimed(secret_timer())
    now = database_clock()
    claiming.mark_sent([Mark(claim.id, claim.token, now, 200)])
    assert recording.record_for_the_dead([report(claim)]) == [True]
    return claim.id


def set_aside(outcome: Outcome) -> UUID:
    claim = claimed(secret_timer())
    assert aside.set_aside(
        claim.id, ValueError("bad"), token=claim.token, outcome=outcome
    )
    return claim.id


@pytest.mark.parametrize("end", [
    lambda: recorded(Outcome.DELIVERED), delivered_too_late,
    delivered_by_the_dead, lambda: set_aside(Outcome.DELIVERED),
    cancelled_alone, cancelled_with_others,
])
def test_who_is_called_no_more_has_no_request(
    end: Callable[[], UUID]
) -> None:
    assert not has_request(end())


@pytest.mark.parametrize("outcome", GAVE_UP)
@pytest.mark.parametrize("end", [recorded, set_aside])
def test_who_can_be_replayed_is_replayed_with_its_request(
    end: Callable[[Outcome], UUID], outcome: Outcome
) -> None:
    timer_id = end(outcome)
    assert replaying.replay_one(OWNER, timer_id)
    assert claimed(timer_id).request == REQUEST


def test_who_is_tried_again_keeps_its_request() -> None:
    claim = claimed(secret_timer())
    assert recording.postpone([postponement(claim)]) == [True]
    assert claimed(claim.id).request == REQUEST


def test_a_record_of_several_drops_only_what_is_needed_no_more() -> None:
    claims: list[Claim] = [claimed(secret_timer()) for _ in range(3)]
    outcomes = [Outcome.FAILED, Outcome.DELIVERED, Outcome.MISSED]
    recording.record([
        report(*pair) for pair in zip(claims, outcomes, strict=True)
    ])
    assert [has_request(each.id) for each in claims] == [True, False, True]
    assert all(attempts(each.id) for each in claims)


def test_a_change_of_an_ended_timer_is_refused_for_that() -> None:
    # Given a delivered timer whose body was text, and is gone
    claim = claimed(new_timer(-1, request=WebhookRequest(
        "POST", {"content-type": "text/plain"}, b"text"
    )))
    recording.record([report(claim)])

    # When somebody changes its headers, which need such a body
    answer = ask(
        "PATCH", f"/timer/{claim.id}",
        {"headers": {"content-type": "text/plain"}},
    )

    # Then the answer is that it has ended, not that it needs a body
    assert answer.status_code == 409
    assert "has ended" in answer.json()["detail"]


def test_the_page_says_that_the_request_is_gone() -> None:
    gone = "not kept once it has been"
    delivered, failed = recorded(Outcome.DELIVERED), recorded(Outcome.FAILED)
    assert gone in ask("GET", f"/dashboard/timer/{delivered}").text
    assert gone not in ask("GET", f"/dashboard/timer/{failed}").text
