"""The pages Timers and Timer: what they show, and what can be done there."""

import html
import json
import re
import shlex
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from django.test import Client
from pytest_django import Settings

from apps.dashboard import finding
from apps.timers import services
from apps.timers.storage import naming
from apps.timers.storage.records import Definition, NamedTimer
from apps.webhooks.request import WebhookRequest
from tests.support.accounts import OWNER
from tests.support.postgres_switch import PostgresSwitch
from tests.support.rows import change, new_timer, row

EVIL = "<script>\"'&"


@pytest.fixture(autouse=True)
def _standalone(db_pool: None, settings: Settings) -> None:
    settings.RABBITMQ_URL = ""


def get(path: str, status: int = 200, /, **query: Any) -> str:
    client = Client(raise_request_exception=False)
    answer = client.get(f"{path}?{urlencode(query, doseq=True)}")
    assert answer.status_code == status
    return answer.content.decode()


def find(**query: Any) -> list[str]:
    """Return the ids of the timers on a page of the list."""
    text = get("/dashboard/timers", **query)
    return re.findall(r'href="/dashboard/timer/([0-9a-f-]+)"', text)


def act(timer: UUID, action: str, **fields: Any) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(f"/dashboard/timer/{timer}/{action}", fields)


def give_up(timer: UUID) -> None:
    change(
        timer,
        "outcome = 'failed', fired_at = due_at, attempts = 1,"
        " status_code = 503, sent_at = due_at + interval '70 ms'",
    )


def test_the_filters_are_those_of_the_api() -> None:
    early = str(new_timer(10, url="http://a.example/"))
    late = str(new_timer(20, url="http://b.example/"))
    failed = new_timer(-10, url="http://b.example/")
    give_up(failed)
    assert find() == [late, early, str(failed)]
    assert find(order="asc") == [str(failed), early, late]
    assert find(status="failed") == [str(failed)]
    assert find(status=["failed", "scheduled"], host="b.example") == [
        late, str(failed),
    ]
    assert find(host="", key="", label=["", ""], **{"from": "", "to": ""})
    due = row(UUID(late))["due_at"]
    assert find(**{"from": f"{due:%Y-%m-%dT%H:%M:%S}"}) == [late]
    assert find(to=due.isoformat()) == [early, str(failed)]


def test_a_key_and_labels_are_shown_and_found() -> None:
    definition = Definition("http://a.example/", labels={"user": EVIL})
    timer = services.new_timer(OWNER, definition, timedelta(seconds=60))
    naming.create([NamedTimer(timer, key=EVIL)])
    text = get("/dashboard/timers", label=f"user:{EVIL}")
    assert f"key <bdi>{html.escape(EVIL)}</bdi>" in text
    assert f"<bdi>user:{html.escape(EVIL)}</bdi>" in text
    assert f'value="user:{html.escape(EVIL)}"' in text
    assert EVIL not in text
    assert find(key="<script*") == [str(timer.id)]


def test_a_list_goes_on_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_LIMIT", 2)
    timers = [str(new_timer(60 - n)) for n in range(5)]
    seen: list[str] = []
    path = "/dashboard/timers?status=scheduled&host=127.0.0.1"
    while path:
        text = Client().get(path).content.decode()
        seen += re.findall(r'href="/dashboard/timer/([0-9a-f-]+)"', text)
        link = re.search(r'href="([^"]+)" rel="next"', text)
        path = html.unescape(link[1]) if link else ""
        for part in ("status=scheduled", "host=127.0.0.1", "order=desc"):
            assert not path or part in path
    assert seen == timers


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ({"host": EVIL}, "host", ""),
        ({"from": EVIL}, "from", "ISO 8601"),
        ({"status": EVIL}, "status", ""),
        ({"label": EVIL}, "label", "name:value"),
        ({"key": "*"}, "key", "alone"),
        ({"host": "a.example", "key": "k"}, "key", "no index"),
        ({"after": EVIL}, "after", "UUID"),
        ({"after": str(uuid4())}, "after", "first page"),
        ({"order": EVIL}, "order", ""),
    ],
)
def test_what_is_wrong_stands_on_the_page(
    query: dict[str, str], field: str, words: str
) -> None:
    new_timer(5)
    text = get("/dashboard/timers", 422, **query)
    found = re.findall(r'id="wrong-(\w+)"><strong>\w+</strong> <bdi>(.*?)<',
                       text)
    assert [name for name, _ in found] == [field]
    assert words in found[0][1]
    assert EVIL not in text


def test_an_empty_list_says_how_to_fill_it() -> None:
    assert "There is no timer yet" in get("/dashboard/timers")
    assert "No timer matches" in get("/dashboard/timers", host="a.example")


def secretive() -> UUID:
    request = WebhookRequest(
        "PUT", {"Authorization": "Bearer abc", "x-odd": EVIL},
        b'"the body\'s secret"',
    )
    return new_timer(60, url=f"http://a.example/?{EVIL}", request=request)


def test_the_request_is_covered_until_it_is_asked_for() -> None:
    path = f"/dashboard/timer/{secretive()}"
    text = html.unescape(get(path))
    assert "Bearer abc" not in text
    assert "secret" not in text
    assert "Body, 19 bytes" in text
    assert "Authorization: ••••" in text
    text = get(path, show="request")
    assert EVIL not in text
    text = html.unescape(text)
    assert "Authorization: Bearer abc" in text
    assert '"the body\'s secret"' in text


def test_the_default_body_is_shown_as_it_is_sent() -> None:
    definition = Definition("http://a.example/", labels={"user": EVIL})
    made = services.new_timer(OWNER, definition, timedelta(seconds=60))
    naming.create([NamedTimer(made)])
    text = get(f"/dashboard/timer/{made.id}")
    assert EVIL not in text
    curl = re.search(r'aria-label="As curl">(.*?)</pre>', text)
    assert curl
    *words, body = shlex.split(html.unescape(curl[1]))
    assert words == [
        "curl", "-X", "POST", "http://a.example/",
        "-H", "content-type: application/json", "--data-binary",
    ]
    assert json.loads(body)["data"]["labels"] == {"user": EVIL}
    assert "Show headers" not in text
    request = WebhookRequest("GET", {"x-a": "1"})
    text = get(f"/dashboard/timer/{new_timer(60, request=request)}")
    assert "It has no body" in text
    assert "content-type" not in text
    assert "Show headers" in text


def test_a_life_is_a_picture_with_words() -> None:
    timer = new_timer(60)
    act(timer, "cancel")
    text = get(f"/dashboard/timer/{timer}")
    assert text.count("<svg") == 2
    told = re.findall(r"<desc[^>]*>(.*?)</desc>", text)
    assert len(set(told)) == 1
    assert re.fullmatch(r"scheduled; now cancelled \d+ m?s later\.", told[0])
    assert 'class="state now muted"' in text
    assert "style=" not in text


def test_a_timer_is_explained_with_its_attempts() -> None:
    timer = new_timer(-60)
    give_up(timer)
    text = get(f"/dashboard/timer/{timer}")
    for each in ("failed", "answered 503", "70.0 ms late", "Replay…"):
        assert each in text
    assert 'class="warn">70.0 ms late' in text
    assert "Cancel…" not in text
    assert "changed?seen" not in text


def test_an_open_page_is_loaded_anew_once_the_timer_changed() -> None:
    timer = new_timer(60)
    text = get(f"/dashboard/timer/{timer}")
    found = re.search(r'hx-get="([^"]+)"', text)
    assert found
    path = html.unescape(found[1])
    assert Client().get(path).status_code == 204
    assert act(timer, "cancel").status_code == 302
    answer = Client().get(path)
    assert (answer.status_code, answer["HX-Refresh"]) == (200, "true")


def test_a_waiting_timer_is_fired_moved_and_cancelled() -> None:
    timer = new_timer(60)
    answer = act(timer, "move", seconds=7200)
    assert answer["Location"] == f"/dashboard/timer/{timer}"
    left = services.get_timer(OWNER, timer)
    assert left
    assert 7100 < left.time_left <= 7200
    assert act(timer, "fire").status_code == 302
    assert row(timer)["due_at"] == row(timer)["next_at"]
    fired = services.get_timer(OWNER, timer)
    assert fired
    assert fired.time_left == 0
    assert act(timer, "cancel").status_code == 302
    assert row(timer)["outcome"] == "cancelled"


def test_a_timer_that_gave_up_is_replayed() -> None:
    timer = new_timer(-60)
    give_up(timer)
    assert act(timer, "replay").status_code == 302
    assert row(timer)["outcome"] is None


@pytest.mark.parametrize(
    ("action", "set_up", "words"),
    [
        ("cancel", "fired_at = now(), leased_until = now()", "being called"),
        ("move", "fired_at = now(), leased_until = now()", "being called"),
        ("fire", "outcome = 'delivered'", "has ended: it is delivered"),
        ("replay", "outcome = 'delivered'", "did not give up"),
        ("replay", "outcome = 'failed', attempts = 1000", "too often"),
    ],
)
def test_a_refusal_stands_where_it_was_asked_for(
    action: str, set_up: str, words: str
) -> None:
    timer = new_timer(-5)
    change(timer, set_up)
    before = row(timer)
    answer = act(timer, action, seconds=5)
    assert answer.status_code == 409
    text = answer.content.decode()
    assert re.search(f'role="alert">[^<]*{words}', text)
    assert row(timer) == before


@pytest.mark.parametrize("seconds", ["", "-1", "x", "9" * 11, "²"])
def test_a_timer_is_not_moved_anywhere(seconds: str) -> None:
    timer = new_timer(60)
    before = row(timer)
    answer = act(timer, "move", seconds=seconds)
    assert answer.status_code == 409
    assert "must be a whole number" in answer.content.decode()
    assert row(timer) == before


def test_what_is_not_there_is_a_page() -> None:
    path = f"/dashboard/timer/{uuid4()}"
    assert "<h1>Not found</h1>" in get(path, 404)
    assert act(uuid4(), "cancel").status_code == 404
    assert act(new_timer(60), "delete").status_code == 404
    assert Client().get(f"{path}/changed").status_code == 204
    assert Client().get(f"{path}/cancel").status_code == 405


def test_pages_of_other_sites_do_nothing() -> None:
    timer = new_timer(60)
    answer = Client().post(
        f"/dashboard/timer/{timer}/cancel",
        headers={"Origin": "https://evil.example"},
    )
    assert answer.status_code == 403
    assert row(timer)["outcome"] is None


def test_a_row_that_can_not_be_read_has_a_page() -> None:
    timer = new_timer(60)
    change(timer, "headers = '[1]', retry = '5', labels = '[2]'")
    assert "Its row can't be read" in get(f"/dashboard/timer/{timer}")
    assert find() == [str(timer)]


def test_without_postgres_they_say_so(postgres: PostgresSwitch) -> None:
    timer = new_timer(60)
    postgres.goes_away()
    text = get(f"/dashboard/timer/{timer}", 503)
    assert "<h1>Postgres is away</h1>" in text
