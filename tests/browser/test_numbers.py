"""The plot of the page Now, and the page Hosts."""

import pytest
from playwright.sync_api import Browser, expect

from apps.core.database import connect
from tests.browser.test_docs import watch
from tests.support.pages import assert_fits, assert_good_to_use, new_page
from tests.support.rollups import add_all
from tests.support.service import Service
from tests.support.timers import value_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser

#: Calls of the last hour, at two hosts, but for a few minutes.
CALLS = """
INSERT INTO tally (at, account_id, host, outcome, status_code, due_at,
                   sent_at, duration, failure)
SELECT at, 1, (ARRAY['api.shop.example', 'hooks.example.org'])[n % 2 + 1],
       CASE WHEN n % 9 = 0 THEN 'failed' ELSE 'delivered' END,
       CASE WHEN n % 9 = 0 THEN NULL ELSE 200 END,
       at, at + (0.4 + n % 10 * n % 60) * interval '1 ms',
       n % 50 * interval '1 ms', CASE WHEN n % 9 = 0 THEN 'timeout' END
FROM generate_series(1, 2000) AS n,
     LATERAL (SELECT now() - n % 60 * interval '1 min' AS at) AS made
WHERE n % 60 NOT BETWEEN 20 AND 25
"""

#: Has the plot forget what it shows, and waits for news.
NEWS = """
() => new Promise((done) => {
  const range = { ...plot.scales.x };
  plot.setData([[range.min, range.max], [1, 1], [1, 1], [1, 1]], false);
  document.addEventListener("htmx:afterSettle", () => done(), { once: true });
  delete document.getElementById("minutes").dataset.tag;
  htmx.trigger("#minutes", "refresh");
})
"""


@pytest.fixture(autouse=True)
def _calls(pages: Service, db_pool: None) -> None:
    with connect() as connection:
        connection.execute(CALLS)
    add_all()  # or the service does, which has the lock
    eventually(lambda: value_of("SELECT count(*) FROM tally") == 0)


def test_lateness_is_plotted_and_zoomed(
    browser: Browser, pages: Service
) -> None:
    # Given the page Now, once the calls are added up
    page = new_page(browser)
    _, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/")

    def has_numbers() -> bool:
        page.reload()
        return "within 1000 ms" in page.locator(".on-time").inner_text()

    eventually(has_numbers, within=30, every=0.5)
    plot = page.locator(".u-over")
    expect(plot).to_be_visible()
    expect(page.locator(".drawn")).to_be_hidden()
    assert_good_to_use(page)

    # When a part of it is drawn over, Then that is shown alone
    def shown() -> float:
        return float(page.evaluate("plot.scales.x.max - plot.scales.x.min"))

    assert shown() == 59 * 60
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 60, steps=4)
    page.mouse.up()
    assert shown() < 59 * 60 / 2

    # And it stays so when there are news, until it is clicked on twice
    page.evaluate(NEWS)
    assert page.evaluate("plot.data[0].length") == 60
    assert shown() < 59 * 60 / 2
    plot.dblclick()
    assert shown() >= 59 * 60
    assert complaints == []


def test_numbers_are_read_without_javascript(
    browser: Browser, pages: Service
) -> None:
    page = new_page(browser, java_script_enabled=False)
    url = f"http://127.0.0.1:{pages.port}/"
    page.goto(url)
    expect(page.locator(".drawn svg")).to_be_visible()
    page.get_by_text("Numbers of each minute").click()
    expect(page.locator(".minutes tbody tr")).to_have_count(60)


def test_hosts_are_read_on_a_desktop_and_on_a_phone(
    browser: Browser, pages: Service
) -> None:
    page = new_page(browser)
    _, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/")
    expect(page.locator(".on-time")).to_contain_text("within 1000 ms")
    page.get_by_role("link", name="Hosts").click()
    row = page.get_by_role("row", name="api.shop.example")
    expect(row).to_contain_text("timeout")
    assert_good_to_use(page)
    page.set_viewport_size({"width": 360, "height": 740})
    assert_fits(page)
    page.get_by_label("host").fill("hooks.example.org")
    page.keyboard.press("Enter")
    expect(row).to_have_count(0)
    assert complaints == []
