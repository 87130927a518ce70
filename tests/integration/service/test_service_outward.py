"""A service that may call nothing inward."""

from collections.abc import Callable

from django.db import connection
from pytest_django import Settings

from tests.support.accounts import ask
from tests.support.inward import URLS, listeners
from tests.support.service import Service
from tests.support.timers import store_timers, unended
from tests.support.waiting import eventually


def test_inward_urls_are_neither_taken_nor_called(
    make_service: Callable[..., Service], settings: Settings
) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ()
    service = make_service(WEBHOOK_ALLOWED_NETWORKS="")
    with listeners() as watched:
        # test_webhooks_outward.py has all of them.
        here = ("127.0.0.1", "[::1]", "localhost")
        urls = [
            url.replace("PORT", str(watched.ports[0]))
            for url in [*(f"http://{each}:PORT/" for each in here),
                        *URLS[::6]]
        ]  # fmt: skip

        # When timers are to be set for them, Then each is refused
        for url in urls:
            body = {"hours": 0, "minutes": 0, "seconds": 0, "url": url}
            answer = ask("POST", "/timer", body)
            assert answer.status_code == 422
            message = answer.json()["errors"][0]["message"]
            assert "WEBHOOK_ALLOWED_NETWORKS" in message

        # When they were set while more was allowed, Then none is called
        timers = {timer for url in urls for timer in store_timers(url, [-1])}
        service.start_worker()
        eventually(lambda: unended(timers) == 0, within=60)
        assert watched.accepted() == []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM timer WHERE sent_at IS NULL"
            " AND outcome = 'failed' AND error LIKE 'blocked: %%'"
        )
        assert cursor.fetchone() == (len(urls),)
