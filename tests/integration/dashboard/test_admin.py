"""The admin: staff look at all accounts, superusers act, by the services."""

import html
import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from apps.accounts import limits, log, services, verifying
from apps.dashboard.admin import lists
from apps.dashboard.admin import site as admin_site
from tests.support.accounts import AUTHOR, OWNER, account, ask, key_of
from tests.support.api import GOOD
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, new_timer, new_timers, row
from tests.support.timers import execute, value_of

pytestmark = pytest.mark.usefixtures("db_pool", "memory_broker")

PASSWORD = "a long word"
FAR = {**GOOD, "hours": 100}


@pytest.fixture(autouse=True)
def quick(settings: Settings) -> None:
    """Have passwords cost little, and everything else need a key."""
    hashers = "django.contrib.auth.hashers"
    settings.PASSWORD_HASHERS = [f"{hashers}.MD5PasswordHasher"]
    settings.REQUIRE_API_KEY = True


def user(name: str, **flags: Any) -> Client:
    """Make a user; return a browser in which they have logged in."""
    client = Client()
    client.force_login(
        User.objects.create_user(name, password=PASSWORD, **flags)
    )
    return client


@pytest.fixture
def staff() -> Client:
    return user("reader", is_staff=True)


@pytest.fixture
def boss() -> Client:
    return user("boss", is_staff=True, is_superuser=True)


def get(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == status, answer.content
    return answer.content.decode()


def words(text: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text)))


def ids(text: str) -> list[str]:
    """Return the ids of the timers that a list has."""
    return re.findall(r'<a href="/admin/timers/timer/([0-9a-f-]+)/change/',
                      text)


def asked(client: Client, path: str, action: str, *chosen: object) -> str:
    """Choose an action; return the page that asks whether it is meant."""
    answer = client.post(
        f"/admin/{path}",
        {"action": action, "_selected_action": [str(e) for e in chosen]},
        follow=True,
    )
    assert answer.status_code == 200
    return answer.content.decode()


def form_of(page: str) -> dict[str, list[str]]:
    """Return what the form in a page's main part sends."""
    _, _, main = page.partition('<main')
    form: dict[str, list[str]] = {}
    for name, value in re.findall(
        r'<input type="hidden" name="(\w+)" value="([^"]*)"', main
    ):
        form.setdefault(name, []).append(value)
    return form


def act(client: Client, path: str, action: str, *chosen: object) -> str:
    """Choose an action, and confirm it."""
    form = form_of(asked(client, path, action, *chosen))
    answer = client.post(f"/admin/{path}", form, follow=True)
    return words(answer.content.decode())


def test_only_staff_get_in() -> None:
    for client in (Client(), user("nobody")):
        for path in ("", "timers/timer/", "accounts/apikey/", "nothing"):
            answer = client.get(f"/admin/{path}")
            assert answer.status_code == 302
            assert answer["Location"].startswith("/admin/login/")
    assert Client().get("/admin")["Location"] == "/admin/"


def test_a_password_lets_staff_in(staff: Client) -> None:
    client = Client()
    form = {"username": "reader", "password": "wrong", "next": "/admin/"}
    wrong = client.post("/admin/login/", form)
    assert "Please enter the correct username" in wrong.content.decode()
    right = client.post("/admin/login/", form | {"password": PASSWORD})
    assert right["Location"] == "/admin/"
    assert "Timer service" in get(client, "")
    client.post("/admin/logout/")
    get(client, "", 302)


def test_a_key_is_no_log_in_and_a_log_in_is_no_key(boss: Client) -> None:
    answer = ask("GET", "/admin/timers/timer/", key=key_of(OWNER))
    assert answer.status_code == 302
    for path in ("/timers", "/account/keys", "/metrics", "/dashboards"):
        assert boss.get(path).status_code == 401, path
    assert boss.post("/timer", FAR, "application/json").status_code == 401


def test_staff_see_pages_and_superusers_act_there(
    staff: Client, boss: Client
) -> None:
    timer = new_timer(60)
    for path in ("/", "/dashboard/keys", f"/dashboard/timer/{timer}"):
        answer = staff.get(path)
        assert answer.status_code == 200, path
        assert "reader , account 1" in words(answer.content.decode())
        assert "<form" not in answer.content.decode()
    path = f"/dashboard/timer/{timer}/cancel"
    refused = staff.post(path)
    assert refused.status_code == 403
    assert "`write`, which superusers have" in refused.content.decode()
    assert boss.post(path).status_code == 302
    assert row(timer)["outcome"] == "cancelled"
    boss.post("/dashboard/keys/new", {"scopes": "read"})
    entry, *_ = log.entries(OWNER, 2)[0]
    assert (entry.operator, entry.action) == ("boss", "create")


def test_an_operator_chooses_whose_pages_are_shown(
    boss: Client, timers: dict[str, Any]
) -> None:
    path = f"/dashboard/timer/{timers['two job']}"
    assert boss.get(path).status_code == 404
    of = value_of("SELECT id FROM account WHERE name = 'two'")
    form = {"action": "look", "_selected_action": [of]}
    answer = boss.post("/admin/accounts/account/", form)
    assert answer["Location"] == "/"
    assert boss.get(path).status_code == 200
    # A key that is sent counts
    headers = {"authorization": f"Bearer {key_of(account('three'))}"}
    assert boss.get(path, headers=headers).status_code == 404


@pytest.mark.parametrize("end", ["is_active = false", "is_staff = false",
                                 "password = 'changed'"])
def test_a_log_in_ends_with_its_user(end: str, staff: Client) -> None:
    assert staff.get("/dashboard/keys").status_code == 200
    execute(f"UPDATE auth_user SET {end}")
    assert staff.get("/dashboard/keys").status_code == 401
    staff.cookies["sessionid"] = "forged"
    assert staff.get("/dashboard/keys").status_code == 401


def test_pages_have_the_policy_of_pages(staff: Client) -> None:
    for client, path in ((Client(), "login/"), (staff, "timers/timer/")):
        answer = client.get(f"/admin/{path}")
        assert answer.status_code == 200
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy


def test_a_form_needs_its_token(boss: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = boss.cookies
    timer = new_timer(60)
    form = {"action": "cancel", "_selected_action": [str(timer)]}
    assert strict.post("/admin/timers/timer/", form).status_code == 403

    # And a proxy may have ended TLS
    page = strict.get("/admin/timers/timer/").content.decode()
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    confirmed = {"csrfmiddlewaretoken": token[1], "confirmed": "yes"}
    answer = strict.post(
        "/admin/timers/timer/", form | confirmed,
        headers={"origin": "https://testserver", "host": "testserver"},
    )
    assert answer.status_code == 302
    assert row(timer)["outcome"] == "cancelled"


@pytest.fixture
def timers() -> dict[str, Any]:
    """Set timers of two accounts; return their ids."""
    made = {}
    for name in ("one", "two"):
        key = key_of(account(name))
        for more in ("order-1", "order-2", "job"):
            body = FAR | {"key": more, "labels": {"user": name}}
            answer = ask("POST", "/timer", body, key=key)
            made[f"{name} {more}"] = answer.json()["id"]
    return made


def test_timers_are_found_by_id_key_and_label(
    staff: Client, timers: dict[str, Any]
) -> None:
    def found(query: str) -> set[str]:
        page = get(staff, f"timers/timer/?q={query}")
        return {name for name, each in timers.items() if each in ids(page)}

    latest = ids(get(staff, "timers/timer/"))
    assert latest == sorted(timers.values(), reverse=True)
    assert found(timers["one job"]) == {"one job"}
    assert found("job") == {"one job", "two job"}
    assert found("order-*") == {
        "one order-1", "one order-2", "two order-1", "two order-2",
    }
    assert found("order-") == found("user:three") == found(str(uuid4())) == (
        set()
    )
    assert found("user:two") == {"two order-1", "two order-2", "two job"}
    assert found("%25") == found("*:*") == set()


def test_a_timer_is_shown_without_its_secrets(staff: Client) -> None:
    key = key_of(account("team"))
    secret = {"headers": {"x-token": "secret-1"}, "body": {"a": "secret-2"}}
    made = ask("POST", "/timer", FAR | secret, key=key).json()["id"]
    change(made, "attempts = 1")
    execute(
        "INSERT INTO attempt (timer_id, number, due_at, status_code, error)"
        f" VALUES ('{made}', 1, now(), 503, '<b>answered</b> 503')"
    )
    text = get(staff, f"timers/timer/{made}/change/")
    assert "secret-" not in text
    assert "<b>answered" not in text
    said = words(text)
    for part in ("team", "retrying", FAR["url"], "<b>answered</b> 503"):
        assert part in said
    assert 'name="_save"' not in text
    get(staff, f"timers/timer/{uuid4()}/change/", 302)


def test_nothing_is_added_changed_or_deleted(
    boss: Client, timers: dict[str, Any]
) -> None:
    timer = timers["one job"]
    prefix = value_of("SELECT prefix FROM api_key LIMIT 1")
    paths = [
        f"{model}/{rest}"
        for model, key in (
            ("timers/timer", timer), ("accounts/apikey", prefix),
            ("accounts/account", OWNER),
        )
        for rest in ("add/", f"{key}/delete/", f"{key}/change/")
    ]
    for path in paths:
        answer = boss.post(f"/admin/{path}", {"name": "x", "url": "x"})
        assert answer.status_code == 403, path
    assert "delete_selected" not in get(boss, "timers/timer/")


def test_a_superuser_acts_through_the_services(
    boss: Client, timers: dict[str, Any]
) -> None:
    # When timers of two accounts are cancelled, one of them twice
    path = "timers/timer/"
    one, two = timers["one job"], timers["two job"]
    assert "2 cancelled." in act(boss, path, "cancel", one, two)
    said = act(boss, path, "cancel", one, timers["one order-1"])
    assert "1 cancelled. 1 could not be, as they are now." in said
    assert row(one)["outcome"] == row(two)["outcome"] == "cancelled"
    assert value_of(
        f"SELECT count(*) FROM event WHERE timer_id = '{one}'"
    ) == 1

    # And one is fired, one replayed
    assert "1 fired." in act(boss, path, "fire", timers["two order-1"])
    assert value_of(
        "SELECT next_at <= now() FROM timer"
        f" WHERE id = '{timers['two order-1']}'"
    )
    failed = timers["two order-2"]
    change(failed, "outcome = 'failed'")
    assert "1 replayed." in act(boss, path, "replay", failed)
    assert row(failed)["outcome"] is None

    # Then each account's log says by whom
    of = value_of("SELECT id FROM account WHERE name = 'two'")
    entries, _ = log.entries(of, 3)
    assert [(each.action, each.count) for each in entries] == [
        ("replay", 1), ("fire", 1), ("cancel", 1),
    ]
    assert {each.operator for each in entries} == {"boss: admin"}
    assert {each.address for each in entries} == {"127.0.0.1"}


@pytest.mark.parametrize("action", ["cancel", "fire", "replay"])
def test_an_action_is_confirmed_first(
    action: str, boss: Client, timers: dict[str, Any]
) -> None:
    if action == "replay":
        for each in timers.values():
            change(each, "outcome = 'failed'")
    before = {each: row(each) for each in timers.values()}
    title = {"cancel": "Cancel", "fire": "Fire now", "replay": "Replay"}

    # When some are chosen, it says how many, and whose
    path = "timers/timer/"
    some = [timers[name] for name in ("one job", "two job", "one order-1")]
    page = asked(boss, path, action, *some)
    said = words(page)
    assert f"{title[action]} 3 timers?" in said
    assert "one: 2" in said
    assert "two: 1" in said

    # And nothing has changed, whatever else than the page's form is sent
    for more in {}, {"confirmed": ""}, {"post": "yes"}, {"confirmed": "no"}:
        boss.post(f"/admin/{path}", {
            "action": action, "_selected_action": some, **more,
        })
    boss.get(f"/admin/{path}", form_of(page))
    assert {each: row(each) for each in timers.values()} == before
    assert value_of("SELECT count(*) FROM log WHERE object LIKE 'timers%%'"
                    ) == 0

    # Then it says what those are that are named, and does no more
    assert sorted(form_of(page)["_selected_action"]) == sorted(some)
    boss.post(f"/admin/{path}", form_of(page))
    changed = {each for each in before if row(each) != before[each]}
    assert changed == set(some)


def test_all_that_a_search_finds_are_counted_and_named(
    boss: Client, timers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a choice of all that were found, more than a page has
    monkeypatch.setattr(lists, "MOST", 5)
    form = {"action": "cancel", "select_across": "1",
            "_selected_action": [timers["one job"]]}
    path = "/admin/timers/timer/"
    page = boss.post(f"{path}?q=order-*", form).content.decode()
    assert "Cancel 4 timers?" in words(page)

    # When another one is set meanwhile
    ask("POST", "/timer", FAR | {"key": "order-9"})
    assert "4 cancelled." in words(boss.post(
        f"{path}?q=order-*", form_of(page), follow=True
    ).content.decode())

    # And no more than a list has
    page = boss.post(path, form).content.decode()
    assert "Cancel 5 timers?" in words(page)


def test_a_thousand_can_be_confirmed(boss: Client) -> None:
    chosen = new_timers(lists.MOST + 1, 60)
    form = {"action": "cancel", "select_across": "1",
            "_selected_action": [str(chosen[0])]}
    page = boss.post("/admin/timers/timer/", form).content.decode()
    assert "Cancel 1,000 timers?" in words(page)
    answer = boss.post("/admin/timers/timer/", form_of(page), follow=True)
    assert "1000 cancelled." in words(answer.content.decode())


def test_a_limit_says_why_nothing_is_replayed(boss: Client) -> None:
    failed = new_timer(-1)
    change(failed, "outcome = 'failed'")
    new_timer(60)
    services.change_limits("default", {"outstanding": 1}, AUTHOR)
    limits.forget()
    said = act(boss, "timers/timer/", "replay", failed)
    assert "The account may have 1 timers that have not ended" in said
    assert "0 replayed. 1 could not be" in said
    assert row(failed)["outcome"] == "failed"


def test_without_postgres_it_is_503(
    staff: Client, postgres: PostgresSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.goes_away()
    answer = staff.get("/admin/timers/timer/?q=order-*")
    assert answer.status_code == 503
    assert answer["Retry-After"] == "1"
    postgres.comes_back()

    # And if it is gone before anybody is known
    def gone(*args: object) -> None:
        raise OperationalError

    monkeypatch.setattr(SessionStore, "load", gone)
    for path in ("/admin/", "/dashboard/timers"):
        assert staff.get(path).status_code == 503


def test_staff_alone_can_not_act(staff: Client) -> None:
    timer = new_timer(60)
    assert 'name="action"' not in get(staff, "timers/timer/")
    act(staff, "timers/timer/", "cancel", timer)
    assert row(timer)["outcome"] is None


def test_a_key_is_revoked_and_its_digest_never_shown(boss: Client) -> None:
    key = key_of(account("team"))
    prefix = key.split("_")[1]
    assert prefix in get(boss, "accounts/apikey/")
    assert prefix in get(boss, "accounts/apikey/?q=team")
    assert prefix not in get(boss, "accounts/apikey/?q=default")
    assert "igest" not in get(boss, f"accounts/apikey/{prefix}/change/")
    page = asked(boss, "accounts/apikey/", "revoke", prefix)
    assert "Revoke 1 api key?" in words(page)
    assert value_of("SELECT count(revoked_at) FROM api_key") == 0
    assert "1 revoked." in act(boss, "accounts/apikey/", "revoke", prefix)
    verifying.forget()
    assert ask("GET", "/timers", key=key).status_code == 401
    assert "boss: admin" in words(get(boss, "accounts/logentry/?q=team"))
    assert "boss: admin" not in words(
        get(boss, "accounts/logentry/?q=default")
    )


@pytest.mark.parametrize(
    "path",
    [
        "", "accounts/account/", "accounts/account/1/change/",
        "accounts/account/?q=def", "accounts/apikey/", "accounts/logentry/",
        "timers/timer/", "timers/timer/?o=5", "timers/timer/?all=",
        "timers/timer/?_facets=True", "timers/timer/?p=2",
    ],
)
def test_nothing_is_counted_beyond_a_thousand(
    path: str, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.create_account("team", AUTHOR)
    monkeypatch.setattr(lists, "MOST", 7)
    monkeypatch.setattr(lists.LookOnly, "list_per_page", 3)
    for _ in range(9):
        new_timer(60)
    with CaptureQueriesContext(connection) as queries:
        get(staff, path)
    for each in queries:
        sql = each["sql"]
        if "COUNT" in sql:
            assert "LIMIT 7) subquery" in sql, sql
        if 'FROM "timer"' in sql and "COUNT" not in sql:
            assert 'ORDER BY "timer"."id" DESC LIMIT' in sql, sql


@pytest.mark.parametrize(
    "query", ["outcome__exact=failed", "account_id=1", "url__contains=a"]
)
def test_no_other_filter_is_taken(query: str, staff: Client) -> None:
    assert staff.get(f"/admin/timers/timer/?{query}").status_code == 400


def test_one_password_is_checked_at_a_time() -> None:
    held = admin_site._log_in
    form = {"username": "a", "password": "b"}
    with held:
        answer = Client().post("/admin/login/", form)
        assert answer.status_code == 429
        assert answer["Retry-After"] == "1"
        assert Client().get("/admin/login/").status_code == 200
    assert Client().post("/admin/login/", form).status_code == 200
    assert not held.locked()


def test_requests_without_the_admin_use_no_session() -> None:
    with CaptureQueriesContext(connection) as queries:
        for path in ("/timers", "/dashboard/timers"):
            Client().get(path, headers={
                "authorization": f"Bearer {key_of(OWNER)}",
                "cookie": "sessionid=abc",
            })
        Client().get("/timers", headers={"cookie": "sessionid=abc"})
    assert len(queries) == 0
