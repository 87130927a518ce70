"""Every action of every page, with the mouse and with the keyboard."""

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.test_docs import watch
from tests.browser.test_inbox import RIGHT_TO_LEFT, SCRIPT
from tests.support.pages import assert_good_to_use, new_page, open_page
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser


def says(page: Page, text: str) -> None:
    """Wait until the list says what came of an action."""
    status = page.get_by_role("status").filter(has_text=text)
    expect(status).to_be_visible()


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def set_many(pages: Service, path: str, count: int = 3) -> list[str]:
    url = f"http://127.0.0.1:{pages.port}/inbox/{path}"
    return [pages.set_timer(600, url) for _ in range(count)]


def statuses(pages: Service, timers: list[str]) -> list[str]:
    return [pages.timer(each)["status"] for each in timers]


def test_a_timer_is_set_and_seen_to_fire_by_the_keyboard(
    browser: Browser, pages: Service
) -> None:
    # Given the first page
    page = open_page(browser, pages, "/")
    _, complaints = watch(page)

    # When its button is reached with the keyboard, and pressed
    button(page, "Call me in 5 seconds").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("is set")).to_be_visible()
    timer = page.url.partition("timer=")[2]

    # Then the inbox shows the call, and the first page the timer
    expect(page.locator("details.call").first).to_contain_text(timer)
    page.get_by_role("link", name="Now").focus()
    page.keyboard.press("Enter")
    fired = page.locator(f"#fired-{timer}")
    expect(fired).to_be_visible()
    fired.focus()
    page.keyboard.press("Enter")
    expect(page.locator("main .said")).to_contain_text("delivered")
    expect(page.locator("svg.life:visible")).to_contain_text("delivered")
    assert complaints == []


def test_many_are_cancelled_once_their_number_was_said(
    browser: Browser, pages: Service
) -> None:
    # Given the list, where some are selected with the mouse
    timers = set_many(pages, "mouse")
    page = new_page(browser)
    _, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/dashboard/timers?order=asc")
    chosen = page.get_by_role("checkbox", name="inbox/mouse")
    expect(chosen).to_have_count(3)
    assert_good_to_use(page)
    chosen.nth(0).check()
    page.get_by_label("all on this page").check()
    expect(chosen.nth(2)).to_be_checked()
    chosen.nth(2).uncheck()

    # When they are to be cancelled, then their number is said, and Enter
    # does nothing
    button(page, "Cancel…").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Cancel 2 timers?")
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Cancel 2 timers?")
    assert_good_to_use(page)
    assert statuses(pages, timers) == ["scheduled"] * 3
    button(page, "Cancel 2 timers").click()
    says(page, "2 of 2 timers were cancelled.")
    assert sorted(statuses(pages, timers)) == [
        "cancelled", "cancelled", "scheduled",
    ]
    assert complaints == []


def test_many_are_moved_by_the_keyboard(
    browser: Browser, pages: Service
) -> None:
    timers = set_many(pages, "keyboard")
    page = open_page(browser, pages, "/dashboard/timers?host=127.0.0.1")
    page.get_by_label("all that match").focus()
    page.keyboard.press("Space")
    button(page, "Move…").focus()
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Move 3 timers?")

    # When Enter is pressed where the seconds are filled in, nothing is moved
    page.get_by_label("seconds from now").focus()
    page.keyboard.type("7200")
    page.keyboard.press("Enter")
    expect(heading).to_have_text("Move 3 timers?")
    assert all(pages.timer(each)["time_left"] <= 600 for each in timers)
    page.keyboard.press("Tab")
    expect(button(page, "Move 3 timers")).to_be_focused()
    page.keyboard.press("Enter")
    says(page, "3 of 3 timers were moved.")
    assert all(pages.timer(each)["time_left"] > 7000 for each in timers)


@pytest.mark.parametrize("java_script", [True, False])
def test_what_gave_up_is_replayed(
    browser: Browser, pages: Service, java_script: bool
) -> None:
    # Given an inbox that answers 410, and timers that failed so
    page = open_page(
        browser, pages, "/inbox/gone", java_script_enabled=java_script
    )
    page.get_by_label("from now on with").select_option("410")
    button(page, "Answer so").click()
    url = f"http://127.0.0.1:{pages.port}/inbox/gone"
    timers = [pages.set_timer(0, url) for _ in range(3)]
    eventually(lambda: statuses(pages, timers) == ["failed"] * 3)
    page.get_by_label("from now on with").select_option("200")
    button(page, "Answer so").click()

    # When one is replayed on its page
    page.goto(
        f"http://127.0.0.1:{pages.port}/dashboard/timer/{timers[0]}"
    )
    page.get_by_text("Replay…").click()
    button(page, "Replay this timer").click()
    eventually(lambda: pages.timer(timers[0])["status"] == "delivered")

    # And another one from the list, with what can't be replayed
    page.goto(
        f"http://127.0.0.1:{pages.port}/dashboard/timers?host=127.0.0.1"
    )
    for timer in timers[:2]:
        page.locator(f'input[value="{timer}"]').check()
    button(page, "Replay…").click()
    expect(page.get_by_text("1: did not give up: delivered")).to_be_visible()
    button(page, "Replay 1 timer").click()
    says(page, "1 of 2 timers was replayed.")
    eventually(lambda: pages.timer(timers[1])["status"] == "delivered")

    # And the last one as a group of those that failed alike
    page.get_by_role("link", name="Gave up").click()
    page.get_by_text("Replay…").click()
    button(page, "Replay 1 timer").click()
    says(page, "1 of 1 timers are called again.")
    eventually(lambda: pages.timer(timers[2])["status"] == "delivered")


def test_one_is_moved_and_its_request_copied(
    browser: Browser, pages: Service
) -> None:
    (timer,) = set_many(pages, "one", 1)
    page = open_page(browser, pages, f"/dashboard/timer/{timer}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("Move…").click()
    page.get_by_label("seconds from now").fill("3600")
    button(page, "Move this timer").click()
    expect(page.get_by_text("It was moved from")).to_be_visible()
    assert pages.timer(timer)["time_left"] > 3500
    page.get_by_text("As curl").click()
    button(page, "Copy").click()
    expect(button(page, "Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -X POST")
    assert "timer.expired" in copied


def test_the_form_suggests_and_what_is_ahead_is_shown(
    browser: Browser, pages: Service
) -> None:
    page = new_page(browser)
    _, complaints = watch(page)
    set_many(pages, "later")
    page.goto(f"http://127.0.0.1:{pages.port}/dashboard/timers")
    options = page.locator("#some-host option")
    expect(options).to_have_count(1)
    page.get_by_label("host").press_sequentially("x")
    expect(options).to_have_count(0)
    page.get_by_label("host").fill("127")
    expect(options).to_have_attribute("value", "127.0.0.1")
    page.get_by_role("link", name="Ahead").click()
    expect(page.get_by_role("img")).to_have_count(3)
    expect(page.get_by_role("cell", name="127.0.0.1").first).to_be_visible()
    assert_good_to_use(page)
    assert complaints == []


def test_hostile_filters_are_shown_as_they_are(
    browser: Browser, pages: Service
) -> None:
    page = new_page(browser)
    _, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/dashboard/timers")
    title = page.title()
    for label, value in (
        ("key, or its beginning and *", SCRIPT + RIGHT_TO_LEFT),
        ("label", f"user:{SCRIPT}{RIGHT_TO_LEFT}"),
    ):
        page.goto(f"http://127.0.0.1:{pages.port}/dashboard/timers")
        page.get_by_label(label, exact=True).fill(value)
        button(page, "Apply").click()
        expect(page.get_by_text("No timer matches")).to_be_visible()
        field = page.get_by_label(label, exact=True).first
        expect(field).to_have_value(value)
        assert page.title() == title
    page.goto(
        f"http://127.0.0.1:{pages.port}/dashboard/timers/cancel?"
        "all=1&key=%3Cscript%3E%22%27%E2%80%AE"
    )
    expect(page.get_by_text("None can be cancelled")).to_be_visible()
    expect(page.get_by_text("<script>\"'\u202e")).to_be_visible()
    assert_good_to_use(page)
    assert complaints == []
