"""Requests with and without keys, within the process."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from apps.accounts import services, storage, verifying
from apps.accounts.access import needed_scope
from apps.accounts.keys import new_key
from apps.accounts.scopes import SCOPES
from config.api import api
from tests.support.accounts import (
    AUTHOR,
    OWNER,
    account,
    ask,
    key_of,
    with_other_secret,
)
from tests.support.api import GOOD
from tests.support.postgres_switch import PostgresSwitch
from tests.support.timers import execute, value_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")


def operations() -> Iterator[tuple[str, str, str]]:
    """Yield what needs a key, by the API's document: method, path, scope.

    The paths have a timer's id that nobody has, a key that nobody has, and so
    on.
    """
    for pattern, methods in api.document["paths"].items():
        path = pattern.replace("{", "").replace("}", "")
        for method in map(str.upper, methods):
            if scope := needed_scope(method, path):
                yield method, path, scope


@pytest.fixture(autouse=True)
def required(settings: Settings) -> None:
    settings.REQUIRE_API_KEY = True


def refused(answer: Any, status: int, challenge: str) -> str:
    """Return the sentence of a refusal, which has the shape of every error."""
    assert answer.status_code == status, (answer.wsgi_request, answer.content)
    assert answer["WWW-Authenticate"] == challenge
    assert answer.json().keys() == {"detail", "errors"}
    return str(answer.json()["detail"])


def test_nothing_is_done_without_a_key() -> None:
    for method, path, _ in operations():
        detail = refused(ask(method, path), 401, "Bearer")
        assert "`Authorization: Bearer tsk_…`" in detail


def test_a_scope_that_is_missing_is_named() -> None:
    for method, path, scope in operations():
        others = SCOPES.keys() - {scope}
        answer = ask(method, path, key=key_of(OWNER, others))
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        assert f"`{scope}`" in refused(answer, 403, challenge)


def test_a_key_with_the_scope_is_let_through() -> None:
    for method, path, scope in operations():
        answer = ask(method, path, key=key_of(OWNER, [scope]))
        assert answer.status_code not in (401, 403), answer.wsgi_request


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/api/docs", "/api/openapi.json"]
)
def test_probes_and_documents_need_no_key(path: str) -> None:
    for key in (None, "tsk_wrong"):
        assert ask("GET", path, key=key).status_code in (200, 302)


@pytest.mark.parametrize("path", ["/", "/timers/list", "/static", "/nothing"])
def test_pages_need_a_key(path: str) -> None:
    refused(ask("GET", path), 401, "Bearer")


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


def test_a_browser_asks_its_user_for_a_key() -> None:
    html = {"accept": "text/html,*/*;q=0.8"}
    challenge = 'Basic realm="an API key, as the password", charset="UTF-8"'
    refused(ask("GET", "/", **html), 401, challenge)
    wrong = ask("GET", "/", authorization=basic("me:x"), **html)
    refused(wrong, 401, challenge)

    key = key_of(account("reader"), ["read"])
    page = ask("GET", "/dashboard/timers", authorization=basic(f"me:{key}"))
    assert page.status_code == 200
    answer = ask(
        "POST", "/dashboard/gave-up/replay", authorization=basic(f":{key}")
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "text", ["Basic", "Basic é", "Basic ====", "Basic eA", "Basic gIA="]
)
def test_what_is_no_basic_authorization_is_no_key(text: str) -> None:
    refused(ask("GET", "/", authorization=text), 401, "Bearer")


def test_a_webhook_to_an_inbox_needs_no_key(settings: Settings) -> None:
    settings.INBOX = "http://127.0.0.1:8000"
    headers = {"webhook-id": "w"}
    assert ask("POST", "/inbox/a", {}, **headers).status_code == 200
    refused(ask("POST", "/inbox/a", {}), 401, "Bearer")
    refused(ask("GET", "/inbox/a"), 401, "Bearer")
    refused(ask("POST", "/inbox/a/timer", {}, **headers), 401, "Bearer")


def wrong_keys() -> dict[str, str]:
    """Make keys that are not valid, by what is wrong with them."""
    good = key_of(OWNER)
    revoked = key_of(OWNER)
    services.revoke_key(revoked.split("_")[1], None, AUTHOR)
    late = datetime.now(UTC) - timedelta(seconds=1)
    return {
        "unknown": new_key(),
        "a text": "anything",
        "with another's secret": with_other_secret(good),
        "revoked": revoked,
        "expired": services.create_key(OWNER, ["read"], late, AUTHOR),
        "cut": good[:-1],
        "two": f"{good} {good}",
        "not ASCII": "tsk_é",
    }


def test_all_keys_that_are_not_valid_are_refused_alike() -> None:
    for _ in range(2):  # when it is looked up, and when it is known
        answers = {
            name: refused(
                ask("GET", "/timers", key=key), 401,
                'Bearer error="invalid_token"',
            )
            for name, key in wrong_keys().items()
        }
        assert len(set(answers.values())) == 1, answers


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Digest dDp0", "tsk_1", "Bearertsk_1"]
)
def test_what_is_no_bearer_is_no_key(value: str) -> None:
    refused(ask("GET", "/timers", authorization=value), 401, "Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_may_have_any_case(scheme: str) -> None:
    key = key_of(OWNER)
    answer = ask("GET", "/timers", authorization=f"{scheme} {key}")
    assert answer.status_code == 200


def test_a_key_ends_at_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given that what is read of a key counts for long
    monkeypatch.setattr(verifying, "LIFETIME", 60)
    # A busy machine may need more than half a second for the first answer.
    for seconds in (0.5, 2, 8):
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        key = services.create_key(OWNER, ["read"], moment, AUTHOR)
        if ask("GET", "/timers", key=key).status_code == 200:
            break
        assert datetime.now(UTC) >= moment
    else:
        pytest.fail("the key never counted")

    # Then it counts until its moment
    eventually(lambda: ask("GET", "/timers", key=key).status_code == 401)
    assert datetime.now(UTC) >= moment


def test_keys_are_not_stored() -> None:
    key = key_of(OWNER)
    secret = key.split("_")[2]
    row = value_of("SELECT row_to_json(api_key)::text FROM api_key")
    assert secret not in row
    assert secret[:43] not in row


def test_where_keys_are_not_needed_one_that_is_sent_counts(
    settings: Settings,
) -> None:
    settings.REQUIRE_API_KEY = False
    assert ask("GET", "/timers").status_code == 200
    assert ask("GET", "/timers", key="another's token").status_code == 200
    refused(ask("GET", "/timers", key=new_key()), 401,
            'Bearer error="invalid_token"')
    key = key_of(OWNER, ["write"])
    assert ask("GET", "/timers", key=key).status_code == 403


def test_a_key_is_looked_up_once_in_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    look_up = storage.look_up

    def counted(prefixes: Any) -> Any:
        asked.extend(prefixes)
        return look_up(prefixes)

    monkeypatch.setattr(verifying._look_ups, "_flush", counted)
    good, wrong = key_of(OWNER), new_key()
    for _ in range(5):
        assert ask("GET", "/timers", key=good).status_code == 200
        assert ask("GET", "/timers", key=wrong).status_code == 401
    # What can't be a key is not looked up at all.
    assert ask("GET", "/timers", key=good[:-1] + "-").status_code == 401
    assert asked == [good.split("_")[1], wrong.split("_")[1]]


def test_answers_about_wrong_keys_take_little_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifying._unknown, "most", 5)
    verifying.forget()
    good = key_of(OWNER)
    assert verifying.caller_with(good)
    for _ in range(12):
        assert verifying.caller_with(new_key()) is None
        assert len(verifying._unknown._known) <= 5
    assert len(verifying._known._known) == 1


def test_a_use_is_noted_to_the_minute() -> None:
    key = key_of(OWNER, ["read"])
    prefix = key.split("_")[1]
    query = f"""
        SELECT last_used_at = date_trunc('minute', last_used_at)
           AND last_used_at > now() - interval '2 min'
        FROM api_key WHERE prefix = '{prefix}'
    """
    assert value_of(query) is None
    # A wrong secret is no use
    wrong = with_other_secret(key)
    assert ask("GET", "/timers", key=wrong).status_code == 401
    assert ask("GET", "/timers", key=key).status_code == 200
    eventually(lambda: value_of(query), within=5)

    # When it was used before
    execute("UPDATE api_key SET last_used_at = '2026-01-01 12:00:00+00'")
    verifying.forget()
    assert ask("GET", "/timers", key=key).status_code == 200
    eventually(lambda: value_of(query), within=5)


def test_without_postgres_no_key_can_be_checked(
    postgres: PostgresSwitch,
) -> None:
    key = key_of(OWNER)
    postgres.goes_away()
    answer = ask("GET", "/timers", key=key)
    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    assert "API key" in answer.json()["detail"]
    postgres.comes_back()
    eventually(
        lambda: ask("GET", "/timers", key=key).status_code == 200, within=5
    )


def test_a_timer_can_be_set_with_a_key() -> None:
    key = key_of(account("team"), ["write"])
    assert ask("POST", "/timer", GOOD, key=key).status_code == 201
