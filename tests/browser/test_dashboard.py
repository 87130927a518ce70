"""The dashboard's pages: all of them are found, read and used."""

from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.test_docs import watch
from tests.support.pages import assert_good_to_use, new_page, open_page
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser


def says(page: Page, word: str) -> None:
    """Wait until the page of a timer begins with a status."""
    expect(page.locator("main .said").first).to_contain_text(word)


def test_a_timer_is_followed_with_the_mouse(
    browser: Browser, pages: Service
) -> None:
    # Given the page Now, which shows a timer as soon as it is set
    page = new_page(browser)
    _, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/")
    expect(page.get_by_text("No timer waits")).to_be_visible()
    timer = pages.set_timer(
        60, f"http://127.0.0.1:{pages.port}/inbox/dashboard"
    )
    link = page.locator(f"#next-{timer}")
    expect(link).to_be_visible()
    assert_good_to_use(page)

    # When it is fired now
    link.click()
    says(page, "scheduled")
    assert_good_to_use(page)
    page.get_by_text("Fire now…").click()
    page.get_by_role("button", name="Fire now this timer").click()

    # Then its page says so by itself, and so do the others
    says(page, "delivered")
    expect(page.get_by_role("row", name="1")).to_contain_text("200")
    assert_good_to_use(page)
    page.get_by_role("link", name="Timers").click()
    page.get_by_label("delivered").check()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("link", name="inbox/dashboard")).to_have_count(1)
    assert_good_to_use(page)
    page.get_by_role("link", name="Now").click()
    expect(page.locator(f"#fired-{timer}")).to_be_visible()
    assert complaints == []


def test_enter_alone_cancels_nothing(browser: Browser, pages: Service) -> None:
    # Given the list, filtered by the keyboard
    timer = pages.set_timer(60, "http://127.0.0.1:1/keys")
    page = open_page(browser, pages, "/dashboard/timers")
    page.get_by_label("host").focus()
    page.keyboard.type("127.0.0.1:1")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 filter")).to_be_visible()
    page.get_by_role("link", name="/keys").focus()
    page.keyboard.press("Enter")

    # When Enter is pressed twice on "Cancel…", it opens and closes
    page.get_by_text("Cancel…").focus()
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Cancel this timer")
    expect(button).to_be_visible()
    page.keyboard.press("Enter")
    expect(button).to_be_hidden()
    assert pages.timer(timer)["status"] == "scheduled"

    # And when the button itself is reached, the timer is cancelled
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    says(page, "cancelled")
    assert pages.timer(timer)["status"] == "cancelled"


def test_a_page_that_nobody_touches_asks_less_often(
    browser: Browser, pages: Service
) -> None:
    # Given a page on which nothing changes
    page = new_page(browser)
    page.clock.install()
    page.goto(f"http://127.0.0.1:{pages.port}/")
    asked: list[int] = []
    seconds = 0

    def pass_by(count: int) -> None:
        nonlocal seconds
        for _ in range(count // 4):
            seconds += 4
            page.clock.run_for(4000)
            expect(page.locator(".htmx-request")).to_have_count(0)

    def note(request: Request) -> None:
        if request.url.endswith("/dashboard/now"):
            asked.append(seconds)

    page.on("request", note)

    # When time passes, Then it asks after 4, 8, 16 and 32 s
    def pauses() -> list[int]:
        pass_by(32)
        return [b - a for a, b in pairwise(asked)]

    eventually(lambda: pauses()[-4:] == [8, 16, 32, 32], within=60)

    # When somebody touches it, Then it asks every 4 s
    page.mouse.move(100, 100)
    asked.clear()
    pass_by(4)
    assert len(asked) == 1

    # And when a timer that it shows is due
    pages.set_timer(3600, "http://127.0.0.1:9/new")
    page.mouse.move(200, 100)
    pass_by(4)
    expect(page.get_by_text("/new").first).to_be_visible()
    eventually(lambda: pauses()[-1] == 32, within=60)
    asked.clear()
    while not asked:
        pass_by(4)
    page.clock.fast_forward(3_600_000)
    asked.clear()
    pass_by(8)
    assert asked


def test_an_open_page_says_that_the_server_is_gone(
    browser: Browser, pages: Service
) -> None:
    page = new_page(browser)
    page.clock.install()
    page.goto(f"http://127.0.0.1:{pages.port}/")
    page.route("**/dashboard/now", lambda route: route.abort())
    page.clock.fast_forward(5000)
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    page.unroute("**/dashboard/now")
    page.clock.fast_forward(5000)
    expect(page.get_by_text("The server does not answer")).to_be_hidden()
