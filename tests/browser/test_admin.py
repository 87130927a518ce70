"""The admin in a browser, under the policy of pages."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, expect

from tests.browser.test_docs import watch
from tests.support.pages import assert_good_to_use, new_page
from tests.support.service import Service

pytestmark = pytest.mark.browser


@pytest.fixture
def operator(db_pool: None) -> None:
    """Make a superuser, as `manage.py createsuperuser` does."""
    User.objects.create_superuser("boss", password="a long word")


def test_an_operator_finds_and_cancels_a_timer(
    operator: None, browser: Browser, pages: Service
) -> None:
    timer = pages.set_timer(60, "http://127.0.0.1:1/admin")
    page = new_page(browser)
    _, complaints = watch(page)

    # When somebody logs in, who comes from the page Keys
    page.goto(f"http://127.0.0.1:{pages.port}/dashboard/keys")
    page.get_by_role("link", name="all accounts").click()
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill("a long word")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="All accounts")).to_be_visible()

    # Then the timer is found by its id, and looked at
    page.get_by_role("link", name="Timers", exact=True).last.click()
    page.get_by_role("searchbox").or_(page.locator("#searchbar")).fill(timer)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=timer).click()
    expect(page.get_by_text("http://127.0.0.1:1/admin")).to_be_visible()
    page.go_back()

    # And is cancelled
    page.locator("input[name=_selected_action]").check()
    page.get_by_label("Action:").select_option("Cancel")
    page.get_by_role("button", name="Go").click()
    heading = page.get_by_role("heading", name="Cancel 1 timer?")
    expect(heading).to_be_visible()
    assert pages.timer(timer)["status"] == "scheduled"
    assert_good_to_use(page)
    page.get_by_role("link", name="No, take me back").click()
    expect(heading).not_to_be_visible()
    page.locator("input[name=_selected_action]").check()
    page.get_by_label("Action:").select_option("Cancel")
    page.get_by_role("button", name="Go").press("Enter")
    page.get_by_role("button", name="Cancel 1 timer").press("Enter")
    expect(page.get_by_text("1 cancelled.")).to_be_visible()
    assert pages.timer(timer)["status"] == "cancelled"

    # And the pages know who looks
    page.goto(f"http://127.0.0.1:{pages.port}/dashboard/timer/{timer}")
    assert_good_to_use(page)
    page.get_by_role("link", name="boss, account 1").click()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("Logged out")).to_be_visible()
    assert complaints == []
