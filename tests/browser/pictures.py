"""Makes docs/pages.md, and its pictures in docs/images/pages.

`make pictures` runs it. A service of its own has made-up timers, the same each
time. Only what depends on the clock differs from run to run.
"""

import base64
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Error, Page

from apps.accounts import log, services
from apps.accounts.authors import Author
from apps.accounts.log import LoggedChange
from apps.accounts.scopes import SCOPES
from apps.timers import bulk
from tests.support.accounts import OWNER
from tests.support.pages import new_page
from tests.support.rows import new_timers
from tests.support.service import ROOT, Service
from tests.support.timers import execute, unended, value_of
from tests.support.waiting import eventually

#: Where they go, and how large all of them may be, in bytes.
PICTURES = ROOT / "docs" / "images" / "pages"
TEXT = ROOT / "docs" / "pages.md"
MOST = 3_000_000
#: The kinds of pictures: a window's width and height, and its colours.
KINDS = {
    "desktop-light": (1280, 800, "light"),
    "desktop-dark": (1280, 800, "dark"),
    "phone-light": (360, 740, "light"),
    "phone-dark": (360, 740, "dark"),
}
QUALITY = 70
#: Waits until a frame is drawn.
DRAWN = """
() => new Promise((done) => {
  requestAnimationFrame(() => requestAnimationFrame(done));
})
"""
#: What stands below each page's heading.
PAGES = {
    "Now": "What comes next, what was just called and how late, and whether"
    " all is well.",
    "Timers": "All timers, by the filters of `GET /timers`. What is typed is"
    " completed from one's own timers.",
    "Cancel": "Many timers are cancelled, replayed or moved once their number"
    " was said. Enter does not confirm.",
    "Timer": "One timer: its life, its attempts, its request.",
    "Retrying": "Another one, whose receiver refuses connections.",
    "Hosts": "How each receiver answered in the last hour.",
    "Ahead": "What is due, and how late the last timer of each herd will be.",
    "Gave up": "Timers that failed alike, to replay.",
    "Inbox": "A receiver that shows what it gets.",
    "Keys": "API keys, and who did what.",
}

# Timers that wait: some by the minute, and a herd at a full hour. None is
# called while the pictures are made.
WAITING = """
INSERT INTO timer (id, url, host, created_at, due_at, next_at, key, labels)
SELECT ('01a21bd8-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
       'https://' || host || path || n, host, now(), at, at,
       'order-' || n, jsonb_build_object('tenant', tenant)
FROM (
    SELECT n, (ARRAY['api.shop.example', 'mail.example', 'pay.example'])
                  [n % 3 + 1] AS host,
           (ARRAY['/orders/', '/reminders/', '/invoices/'])[n % 3 + 1] AS path,
           (ARRAY['acme', 'globex', 'initech'])[n % 7 % 3 + 1] AS tenant,
           now() + interval '3 min'
           + interval '1 s' * (n * 7919 % CASE n % 3 WHEN 0 THEN 3400
                                               ELSE 60000 END) AS at
    FROM generate_series(1, 1500) AS n
) AS made
"""
HERD = """
INSERT INTO timer (id, url, host, created_at, due_at, next_at)
SELECT ('01a21bd8-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid,
       'https://api.shop.example/daily/' || n, 'api.shop.example', now(),
       at, at
FROM generate_series(1, 4000) AS n,
     (SELECT date_trunc('hour', now()) + interval '6 h' AS at) AS moment
"""
FAR = """
INSERT INTO timer (id, url, host, created_at, due_at, next_at)
SELECT ('01a21bd8-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid,
       'https://pay.example/invoices/' || n, 'pay.example', now(), at, at
FROM (
    SELECT n, now() + interval '1 day' + interval '1 min'
                      * (n * 7919 % 41760) AS at
    FROM generate_series(1, 2500) AS n
) AS made
"""
# Timers of the last hour: most were delivered, some failed alike.
ENDED = """
INSERT INTO timer (id, url, host, created_at, due_at, next_at, fired_at,
                   sent_at, outcome, status_code, error, attempts)
SELECT ('01a21bd7-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
       'https://' || host || '/orders/' || n, host, at - interval '1 h', at,
       at, at - interval '12 ms', sent_at,
       CASE WHEN kind < 90 THEN 'delivered' WHEN kind = 99 THEN 'unknown'
            ELSE 'failed' END,
       CASE WHEN kind < 90 THEN 200 WHEN kind < 95 THEN 503 END,
       CASE WHEN kind = 99
            THEN 'unknown: the worker died after the request had left'
            WHEN kind >= 95 THEN 'refused: Connection refused' END, 1
FROM (
    SELECT n, kind, at,
           at + interval '1 ms' * (0.4 + n % 13 * 0.3 + (n % 97 = 0)::int * 61)
               AS sent_at,
           (ARRAY['api.shop.example', 'mail.example', 'pay.example'])
               [CASE WHEN kind >= 95 THEN 2 ELSE n % 3 + 1 END] AS host
    FROM (SELECT n, n * 31 % 100 AS kind,
                 now() - interval '1 s' * (n * 3.5 % 3500 + 20) AS at
          FROM generate_series(1, 1000) AS n) AS numbered
) AS made
"""
ATTEMPTS = """
INSERT INTO attempt (timer_id, number, due_at, sent_at, status_code, error,
                     duration)
SELECT id, 1, due_at, sent_at, status_code, error,
       interval '1 ms' * (CASE host WHEN 'api.shop.example' THEN 200
                               WHEN 'mail.example' THEN 45 ELSE 90 END
                          + extract(second FROM due_at)::int % 17)
FROM timer WHERE outcome IS NOT NULL AND url LIKE 'https://%'
"""
#: What roll-ups are made of.
TALLIES = """
INSERT INTO tally (at, due_at, sent_at, duration, account_id, status_code,
                   outcome, failure, host)
SELECT timer.sent_at, timer.due_at, timer.sent_at, duration, account_id,
       timer.status_code, outcome, split_part(timer.error, ':', 1), host
FROM timer JOIN attempt ON timer_id = id
WHERE url LIKE 'https://%'
"""


def change_keys() -> None:
    """Make keys, and other changes that are logged."""
    by = Author(OWNER, operator="deploy: manage.py api_keys create")
    old, shop, admin = (
        services.create_key(OWNER, scopes, None, by).split("_")[1]
        for scopes in (["write"], ["read", "write"], [*SCOPES])
    )
    by_admin = Author(OWNER, key=admin, address="192.0.2.7")
    services.revoke_key(old, OWNER, by_admin)
    bulk.cancel(
        Author(OWNER, key=shop, address="198.51.100.23"),
        new_timers(17, 9e6, url="https://pay.example/"), "host",
    )
    for action in "hold", "release":
        by = Author(OWNER, operator=f"deploy: manage.py {action}")
        log.write(LoggedChange(by, action, "calls"))


@pytest.fixture
def shown(pages: Service, db_pool: None) -> dict[str, str]:
    """Fill the service; return each page's name and its path."""
    inbox = f"http://127.0.0.1:{pages.port}/inbox/hello"
    called = {pages.set_timer(0, inbox) for _ in range(3)}
    failing = pages.set_timer(0, "http://127.0.0.1:9/orders/18")
    eventually(lambda: not unended(called), within=30)
    eventually(lambda: pages.timer(failing)["status"] == "retrying")
    for statement in (WAITING, HERD, FAR, ENDED, ATTEMPTS):
        execute(statement.replace("%", "%%"))
    change_keys()
    if value_of("SELECT to_regclass('tally')"):
        execute(TALLIES.replace("%", "%%"))
        eventually(lambda: value_of("SELECT count(*) = 0 FROM tally"))
    execute("ANALYZE timer")
    return {
        "Now": "/",
        "Timers": "/dashboard/timers?status=scheduled&host=api.shop.example",
        "Cancel": "/dashboard/timers/cancel?all=1&host=mail.example",
        "Timer": f"/dashboard/timer/{min(called)}",
        "Retrying": f"/dashboard/timer/{failing}",
        "Hosts": "/dashboard/hosts",
        "Ahead": "/dashboard/ahead",
        "Gave up": "/dashboard/gave-up",
        "Inbox": "/inbox/hello",
        "Keys": "/dashboard/keys",
    }


def test_pictures(
    shown: dict[str, str], pages: Service, browser: Browser
) -> None:
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.glob("*.webp"):
        old.unlink()
    page = new_page(browser, locale="en-GB", timezone_id="UTC")
    base, made = f"http://127.0.0.1:{pages.port}", []
    for name, path in shown.items():
        answer = page.request.get(f"{base}{path}")
        if answer.status != 404:  # else it is a page of another version
            assert answer.ok, f"{path}: {answer.status}"
            take(page, f"{base}{path}", name)
            made.append(name)
    TEXT.write_text(text(made))
    size = sum(each.stat().st_size for each in PICTURES.iterdir())
    print(f"\n{len(made)} pages, {size:,} bytes")
    assert size <= MOST


def take(page: Page, url: str, name: str) -> None:
    """Take all kinds of pictures of a page."""
    for kind, (width, height, scheme) in KINDS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        page.goto(url)
        page.evaluate(DRAWN)
        session = page.context.new_cdp_session(page)
        answer = eventually(partial(capture, session))
        session.detach()
        picture = PICTURES / file(name, kind)
        picture.write_bytes(base64.b64decode(answer["data"]))


def capture(session: CDPSession) -> Any:
    """Take a picture; None if Chromium has not drawn the page yet."""
    try:
        return session.send(
            "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
        )
    except Error:
        return None


def file(name: str, kind: str) -> str:
    return f"{name.lower().replace(' ', '-')}-{kind}.webp"


def text(names: list[str]) -> str:
    """Return docs/pages.md."""
    parts = [
        "# Pages",
        "[What each page is for](operate.md#pages). `make pictures` makes this"
        " page and its pictures anew, from a service with made-up timers.",
    ]
    for name in names:
        pictures = {
            kind: f"images/pages/{file(name, kind)}" for kind in KINDS
        }
        others = " · ".join(
            f"[{kind.replace('-', ', ')}]({path})"
            for kind, path in pictures.items()
        )
        parts += [
            f"## {name}", f"{PAGES[name]} {others}",
            f"![The page {name} on a desktop]({pictures['desktop-light']})",
        ]
    return "\n\n".join(parts) + "\n"
