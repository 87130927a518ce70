"""How long pages take beside many timers, and what open tabs cost.

`make test ARGS="-n 0 -m load -s tests/load/test_pages.py"`. TIMERS says how
many there are (10,000,000, which take 6 GB of disk). Seven in ten are asleep,
evenly over 30 days; the others have ended within 30 days. One in a thousand is
another account's.
"""

import heapq
import http.client
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoDbBlocker

from apps.core.database import connect, pool
from apps.dashboard import ahead, now, numbers
from apps.monitoring.rollups import adding
from tests.load.bench.usage import cpu, tree
from tests.support.accounts import OWNER, account, key_of
from tests.support.databases import empty_tables
from tests.support.rollups import add_all
from tests.support.service import Service
from tests.support.timers import value_of

pytestmark = [
    pytest.mark.load, pytest.mark.timeout(3600), pytest.mark.django_db,
]

TIMERS = int(os.environ.get("TIMERS", "10000000"))
CHUNK = 100_000
#: How often each page is asked for, and how long it may take, in seconds.
TIMES, MOST, MOST_ADMIN = 9, 0.2, 0.3
#: Open tabs, and for how long they are, in seconds.
TABS, SECONDS = 100, 120
#: How often a tab asks for each part of the page Now, in seconds: the first
#: part less often while nothing is new and nobody touches the tab.
USED = {"/dashboard/now": 4.0, "/dashboard/now/lateness": 120.0}
UNTOUCHED = {**USED, "/dashboard/now": 32.0}

# One in ten has a key, and one in five a label, of which there are 97; one in
# six of those that ended failed.
MAKE = """
WITH numbered AS (
    SELECT n, n %% 10 < 7 AS sleeps,
           CASE WHEN n %% 997 = 3 THEN %(few)s ELSE 1 END AS account_id,
           'host' || n %% 100 || '.example' AS host,
           n %% 10 = 9 AND n / 10 %% 2 = 0 AS failed,
           now() - interval '30 day' * n / %(all)s AS ended_at
    FROM generate_series(%(start)s::bigint, %(end)s) AS n
),
made AS MATERIALIZED (
    SELECT *,
           CASE WHEN NOT sleeps THEN ended_at
                WHEN n %% 2500 = 0
                THEN date_trunc('hour', now()) + interval '6 h'
                ELSE now() + interval '20 min'
                     + interval '1 ms' * (n * 2654435761 %% 2592000000)
           END AS at,
           CASE WHEN sleeps THEN NULL WHEN failed THEN 'failed'
                ELSE 'delivered' END AS outcome,
           CASE WHEN sleeps THEN NULL WHEN failed THEN 503 ELSE 200
           END AS status_code
    FROM numbered
),
stored AS (
    INSERT INTO timer (id, account_id, url, host, key, labels, created_at,
                       due_at, next_at, fired_at, claim_token, claims,
                       attempts, sent_at, outcome, status_code)
    SELECT uuidv7(ended_at - interval '1 h' - now()), account_id,
           'https://' || host || '/orders/' || n, host,
           CASE WHEN n %% 10 = 1 THEN 'order-' || n END,
           CASE WHEN n %% 5 = 2
                THEN jsonb_build_object('user', (n %% 97)::text) END,
           ended_at - interval '1 h', at, at,
           CASE WHEN NOT sleeps THEN at END,
           CASE WHEN NOT sleeps THEN gen_random_uuid() END,
           (NOT sleeps)::int, (NOT sleeps)::int,
           CASE WHEN NOT sleeps THEN at + interval '1 ms' END,
           outcome, status_code
    FROM made
    RETURNING id, account_id, host, key, labels, due_at, sent_at, outcome,
              status_code
),
named AS (
    INSERT INTO timer_key (account_id, key, timer_id)
    SELECT account_id, key, id FROM stored WHERE key IS NOT NULL
),
labelled AS (
    INSERT INTO timer_label (account_id, name, value, due_at, timer_id)
    SELECT account_id, 'user', labels ->> 'user', due_at, id FROM stored
    WHERE labels IS NOT NULL
),
tallied AS (
    INSERT INTO tally (account_id, at, host, outcome, due_at, sent_at,
                       duration, status_code)
    SELECT account_id, sent_at, host, outcome, due_at, sent_at,
           interval '40 ms', status_code
    FROM stored WHERE outcome IS NOT NULL
)
INSERT INTO attempt (timer_id, number, due_at, sent_at, status_code, duration)
SELECT id, 1, due_at, sent_at, status_code, interval '40 ms' FROM stored
WHERE outcome IS NOT NULL
"""
TABLES = "timer, timer_key, timer_label, attempt, roll_up, roll_up_host"
#: A worker of 128 threads, so that Ahead can tell how late herds will be.
WORKER = """
INSERT INTO process (id, role, name, seen_at, good_at, threads, busy)
VALUES (gen_random_uuid(), 'worker', 'one', now() + interval '1 day',
        now() + interval '1 day', 128, 0)
"""

#: Pages, by what they show. `{id}` is a timer that was called.
PAGES = {
    "Now": "/",
    "its part that changes": "/dashboard/now",
    "the last hour": "/dashboard/now/lateness",
    "Timers": "/dashboard/timers",
    "Timers, scheduled": "/dashboard/timers?status=scheduled",
    "Timers, failed": "/dashboard/timers?status=failed",
    "Timers of a host": "/dashboard/timers?host=host17.example",
    "Timers of a label": "/dashboard/timers?label=user:12",
    "Timers of a label, scheduled":
        "/dashboard/timers?label=user:12&status=scheduled",
    "a key": "/dashboard/timers?key=order-5001",
    "keys that begin so": "/dashboard/timers?key=order-50*",
    "Timers in a time": "/dashboard/timers?from={day}T10:00&to={day}T11:00",
    "a host's that failed in a time":
        "/dashboard/timers?status=failed&host=host9.example&to={day}T10:00",
    "suggested hosts": "/dashboard/timers/suggest/host?host=host1",
    "suggested keys": "/dashboard/timers/suggest/key?key=order-1",
    "suggested labels": "/dashboard/timers/suggest/label?label=user:1",
    "how many to cancel":
        "/dashboard/timers/cancel?all=1&host=host17.example",
    "a timer": "/dashboard/timer/{id}",
    "Hosts": "/dashboard/hosts",
    "one host": "/dashboard/hosts?host=host17.example",
    "Ahead": "/dashboard/ahead",
    "Gave up": "/dashboard/gave-up",
    "Keys": "/dashboard/keys",
    "/metrics": "/metrics",
}
ADMIN = {
    "admin": "/admin/",
    "accounts": "/admin/accounts/account/",
    "an account": "/admin/accounts/account/1/change/",
    "API keys": "/admin/accounts/apikey/",
    "log": "/admin/accounts/logentry/",
    "timers": "/admin/timers/timer/",
    "the last page": "/admin/timers/timer/?p=20",
    "timers by id": "/admin/timers/timer/?q={id}",
    "timers by key": "/admin/timers/timer/?q=order-5001",
    "timers by label": "/admin/timers/timer/?q=user:12",
    "a timer and its attempts": "/admin/timers/timer/{id}/change/",
}


@pytest.fixture(scope="module")
def few(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[int]:
    """Make the timers; return the account that has a thousandth of them."""
    with django_db_blocker.unblock():
        began = time.monotonic()
        other = account("few")
        with ThreadPoolExecutor(2) as threads:
            starts = range(0, TIMERS, CHUNK)
            list(threads.map(lambda start: make(start, other), starts))
        add_all()
        for _ in adding.forget():
            pass
        with connect() as connection:
            connection.execute(WORKER)
            connection.execute(f"VACUUM ANALYZE {TABLES}")
        size = value_of("SELECT pg_database_size(current_database())")
        print(
            f"\n{TIMERS:,} timers, {size / 1e9:.1f} GB,"
            f" made in {time.monotonic() - began:.0f} s"
        )
        yield other
        empty_tables()


def make(start: int, other: int) -> None:
    """Store a chunk of timers."""
    end = min(start + CHUNK, TIMERS) - 1
    with connect() as connection:
        connection.execute(
            MAKE, {"start": start, "end": end, "all": TIMERS, "few": other}
        )


def called_timer(of: int) -> str:
    """Return the id of an account's timer that was called."""
    return str(value_of(
        "SELECT id FROM timer WHERE account_id = %s AND outcome = 'delivered'"
        " LIMIT 1", of,
    ))


def seconds(client: Client, path: str, headers: dict[str, str]) -> float:
    """Return how long a page takes that nobody has asked for of late."""
    for values in ahead.fresh, now.asleep, now.fresh, numbers.fresh:
        values.forget()
    began = time.perf_counter()
    answer = client.get(path, headers=headers)
    took = time.perf_counter() - began
    assert answer.status_code == 200, (path, answer.content)
    return took


def measure(
    client: Client, pages: dict[str, str], of: int, most: float
) -> list[str]:
    """Print how long pages take; return those that take too long."""
    headers = {"authorization": f"Bearer {key_of(of)}"} if of != OWNER else {}
    timer = called_timer(of)
    day = value_of("SELECT to_char(now() + interval '1 day', 'YYYY-MM-DD')")
    slow = []
    for name, path in pages.items():
        path = path.format(id=timer, day=day)
        first = seconds(client, path, headers)
        times = [seconds(client, path, headers) for _ in range(TIMES)]
        median = statistics.median(times)
        print(
            f"  {name}: {median * 1e3:.0f} ms ({min(times) * 1e3:.0f} to"
            f" {max(times) * 1e3:.0f}; at first {first * 1e3:.0f})"
        )
        if median > most:
            slow.append(f"{name}: {median * 1e3:.0f} ms")
    return slow


def test_pages_are_quick(few: int) -> None:
    slow = []
    for of, name in (OWNER, "nearly all timers"), (few, "a thousandth"):
        print(f"\npages of an account with {name}:")
        slow += measure(Client(), PAGES, of, MOST)
    assert not slow


def test_admin_is_quick(few: int) -> None:
    print("\nthe admin:")
    client = Client()
    client.force_login(User.objects.create_superuser("boss", password="long"))
    assert not measure(client, ADMIN, OWNER, MOST_ADMIN)


def test_open_tabs_cost_little(few: int, tmp_path: Path) -> None:
    # Given a web process, and tabs that have been shown the page Now
    service = Service(tmp_path, "")
    try:
        web = service.start_web()
        tabs = [Tab(service.port) for _ in range(TABS)]
        idle = spend(web.pid, tabs, {})

        # When nobody touches them, they cost little
        print()
        costs = {
            name: cost(name, idle, spend(web.pid, tabs, every), tabs)
            for name, every in (("untouched", UNTOUCHED), ("used", USED))
        }
    finally:
        service.kill()
    assert costs["untouched"] <= 0.01


class Tab:
    """A tab that shows the page Now: a connection, and what it has seen."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._tags: dict[str, str] = {}
        self.statuses: list[int] = []
        for path in USED:
            self.ask(path)

    def ask(self, path: str) -> None:
        """Ask whether a part is new."""
        tag = self._tags.get(path, "")
        headers = {"If-None-Match": tag}
        try:
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
        except ConnectionError:  # web has ended it: it had nothing to do
            self._connection.close()
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
        answer.read()
        self._tags[path] = answer.headers.get("ETag", tag)
        self.statuses.append(answer.status)


def cost(
    name: str, idle: dict[str, float], busy: dict[str, float],
    tabs: Sequence[Tab],
) -> float:
    """Print and return what tabs have cost, of one core."""
    statuses = [status for tab in tabs for status in tab.statuses]
    shares = {
        server: (busy[server] - idle[server]) / SECONDS for server in busy
    }
    print(
        f"{TABS} tabs, {name}: {len(statuses) / SECONDS:.1f} questions a"
        f" second, {statuses.count(304) / len(statuses):.0%} answered 304:"
        f" of one core, {sum(shares.values()):.2%}: "
        + ", ".join(f"{server} {of:.2%}" for server, of in shares.items())
    )
    return sum(shares.values())


def spent(web: int) -> tuple[float, dict[int, float]]:
    """Return the CPU seconds of web, and of each session of Postgres's.

    Its other processes look after what was made.
    """
    with pool().connection() as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        ).fetchall()
    return cpu(tree(web)), {pid: cpu([pid]) for (pid,) in rows}


def spend(
    web: int, tabs: Sequence[Tab], every: Mapping[str, float]
) -> dict[str, float]:
    """Return the CPU seconds that are spent while tabs ask in turn.

    `every`: how often each tab asks for a part, in seconds.
    """
    for tab in tabs:
        tab.statuses.clear()
    began = time.monotonic()
    web_before, before = spent(web)
    for at, number, path in heapq.merge(
        *(_questions(path, seconds) for path, seconds in every.items())
    ):
        time.sleep(max(0.0, began + at - time.monotonic()))
        tabs[number % TABS].ask(path)
    time.sleep(max(0.0, began + SECONDS - time.monotonic()))
    web_after, after = spent(web)
    return {
        "web": web_after - web_before,
        "Postgres": sum(
            now - before.get(pid, 0.0) for pid, now in after.items()
        ),
    }


def _questions(path: str, every: float) -> Iterator[tuple[float, int, str]]:
    """Yield when all tabs ask for a part, one after the other."""
    for number in range(int(SECONDS * TABS / every)):
        yield number * every / TABS, number, path
