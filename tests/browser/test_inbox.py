"""From a running service to a fired timer that is seen in the browser."""

import json

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.test_docs import watch
from tests.support.pages import assert_good_to_use, new_page, open_page
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser

#: A header's value is ASCII; a body may be anything.
SCRIPT = "<script>document.title = 'hacked'</script>\"'&<b>"
RIGHT_TO_LEFT = "\u202eשלום عالم\u202c"


def calls(page: Page) -> Locator:
    return page.locator("details.call")


def test_a_timer_set_with_the_mouse_is_seen_to_fire(
    browser: Browser, pages: Service
) -> None:
    # Given an empty inbox
    page = new_page(browser)
    requests, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/inbox")
    expect(page.get_by_role("heading", level=1)).to_have_text("Inbox hello")
    expect(page.get_by_text("No call has come yet")).to_be_visible()

    # When a timer is set by a click
    page.get_by_label("in seconds").fill("1")
    page.get_by_role("button", name="Set a timer").click()
    expect(page.get_by_text("is set")).to_be_visible()

    # Then its call is seen to come, verified, and is the timer's
    call = calls(page).first
    expect(call).to_contain_text("verified")
    expect(call).not_to_contain_text("not verified")
    expect(call).to_contain_text("attempt 1")
    expect(call).to_contain_text(page.url.partition("timer=")[2])
    expect(page.get_by_text("No call has come yet")).to_have_count(0)
    assert complaints == []
    assert all(f":{pages.port}/" in url for url in requests)

    # And another one, before it
    pages.set_timer(0, f"http://127.0.0.1:{pages.port}/inbox/hello?2")
    expect(calls(page).first).to_contain_text("?2")
    expect(calls(page)).to_have_count(2)

    # And so it is on a phone, and in the dark
    assert_good_to_use(page)


def test_the_keyboard_does_as_well(browser: Browser, pages: Service) -> None:
    page = open_page(browser, pages, "/inbox/keys")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_attribute("name", "seconds")
    page.keyboard.type("0")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(calls(page)).to_have_count(1)

    # When the inbox is told to answer 410, by the keyboard
    page.get_by_label("from now on with").focus()
    page.keyboard.type("410")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Answer so").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("It answers 410")).to_be_visible()

    # Then the next timer fails
    timer = pages.set_timer(0, f"http://127.0.0.1:{pages.port}/inbox/keys")
    eventually(lambda: pages.timer(timer)["status"] == "failed")
    assert pages.timer(timer)["status_code"] == 410


def test_a_connection_is_reset(browser: Browser, pages: Service) -> None:
    # Given an inbox that is to reset connections
    page = open_page(browser, pages, "/inbox/reset")
    page.get_by_label("from now on with").select_option(
        label="a reset of the connection"
    )
    page.get_by_role("button", name="Answer so").click()
    url = f"http://127.0.0.1:{pages.env['INBOX_RESET_PORT']}/inbox/reset"
    expect(page.get_by_text(f"Each call of {url} is shown")).to_be_visible()

    # When its form sets a timer
    page.get_by_label("in seconds").fill("0")
    page.get_by_role("button", name="Set a timer").click()

    # Then the call is seen, and the timer says what became of it
    expect(calls(page).first).to_contain_text("a reset of the connection")
    timer = page.url.partition("timer=")[2]
    eventually(lambda: pages.timer(timer)["status"] == "failed")
    assert "reset" in pages.timer(timer)["error"]
    assert_good_to_use(page)


def test_without_javascript_and_with_hostile_calls(
    browser: Browser, pages: Service
) -> None:
    # Given calls whose every part would like to be HTML
    status, _ = pages.request(
        "POST", "/timer",
        {
            "hours": 0, "minutes": 0, "seconds": 0,
            "url": f"http://127.0.0.1:{pages.port}/inbox/odd?%3Cb%3E",
            "headers": {"x-odd": SCRIPT, "content-type": "text/plain"},
            "body": SCRIPT + RIGHT_TO_LEFT,
        },
    )
    assert status == 201
    page = open_page(browser, pages, "/inbox/odd", java_script_enabled=False)
    eventually(lambda: page.reload() and calls(page).count())

    # Then they are shown as they are, and the script did not run
    call = calls(page).first
    expect(call.get_by_label("Body")).to_have_text(SCRIPT + RIGHT_TO_LEFT)
    expect(call.get_by_role("row", name="x-odd")).to_contain_text(SCRIPT)
    expect(page).to_have_title("Inbox odd · Timer service")

    # And a timer is set by the form
    page.get_by_label("in seconds").fill("0")
    page.get_by_role("button", name="Set a timer").click()
    expect(page.get_by_text("is set")).to_be_visible()
    eventually(lambda: page.reload() and calls(page).count() == 2)
    body = calls(page).first.get_by_label("Body", exact=True).inner_text()
    assert json.loads(body)["type"] == "timer.expired"
