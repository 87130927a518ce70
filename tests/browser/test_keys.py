"""The page Keys in a browser: a key is made, shown once, and revoked."""

import re

import pytest
from playwright.sync_api import Browser, expect

from apps.accounts.keys import PATTERN
from tests.browser.test_docs import watch
from tests.support.pages import assert_good_to_use, new_page, open_page
from tests.support.service import Service

pytestmark = pytest.mark.browser

PATH = "/dashboard/keys"


def test_a_key_is_made_and_revoked_with_the_mouse(
    browser: Browser, pages: Service
) -> None:
    page = new_page(browser)
    _, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/")
    page.get_by_role("link", name="Keys").click()
    expect(page.get_by_text("No key yet")).to_be_visible()
    assert_good_to_use(page)

    # When a key is made
    page.get_by_label("read:").check()
    page.get_by_label("metrics:").check()
    page.get_by_label("ends (UTC)").fill("2099-01-31T12:00")
    page.get_by_role("button", name="Create a key").click()
    shown = page.get_by_label("The new key")
    expect(shown).to_have_text(PATTERN)
    prefix = str(shown.text_content()).split("_")[1]
    assert_good_to_use(page)

    # Then it is listed, and logged with where it was made from
    page.get_by_role("link", name="Keys").click()
    expect(shown).to_have_count(0)
    row = page.get_by_role("row", name=re.compile(f"^{prefix}"))
    expect(row).to_contain_text("metrics, read")
    line = page.get_by_role("row", name=f"create key {prefix}")
    expect(line).to_contain_text("127.0.0.1")

    # And is gone when it is revoked
    row.get_by_text("Revoke…").click()
    assert_good_to_use(page)
    page.get_by_role("button", name=f"Revoke {prefix}").click()
    expect(page.get_by_role("row", name=f"revoke key {prefix}")).to_have_count(
        1
    )
    expect(row).to_have_count(0)
    assert_good_to_use(page)
    assert complaints == []


def test_it_works_without_javascript_by_keyboard(
    browser: Browser, pages: Service
) -> None:
    page = open_page(browser, pages, PATH, java_script_enabled=False)
    page.get_by_label("write:").focus()
    page.keyboard.press("Space")
    page.get_by_label("ends (UTC)").focus()
    page.keyboard.type("soon")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("must be a moment")
    expect(page.get_by_label("write:")).to_be_checked()
    page.get_by_label("ends (UTC)").fill("")
    page.keyboard.press("Enter")
    expect(page.get_by_label("The new key")).to_have_text(PATTERN)
