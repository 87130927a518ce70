"""The documents' page: it works by itself, and so does what it describes."""

import json
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser


def watch(page: Page) -> tuple[list[str], list[str]]:
    """Return lists of what the page requests, and of its complaints."""
    requests: list[str] = []
    complaints: list[str] = []

    def note_request(request: Request) -> None:
        if not request.url.startswith("data:"):
            requests.append(request.url)

    def note_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def note_failure(request: Request) -> None:
        # What a page still loads when it is left is no fault.
        if request.failure != "net::ERR_ABORTED":
            complaints.append(f"failed: {request.url}: {request.failure}")

    page.on("request", note_request)
    page.on("console", note_message)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", note_failure)
    return requests, complaints


def open_operation(page: Page) -> None:
    """Open POST /timer, to be tried out."""
    operation = page.locator("#operations-timers-create_timer")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()


def execute(page: Page, body: str) -> None:
    """Execute POST /timer with a body."""
    operation = page.locator("#operations-timers-create_timer")
    operation.locator("textarea.body-param__text").fill(body)
    operation.get_by_role("button", name="Execute").click()


def test_a_timer_set_from_the_page_fires_and_a_mistake_is_explained(
    pages: Service, page: Page, receiver: Receiver
) -> None:
    # Given the page, opened at the service's own address
    requests, complaints = watch(page)
    page.goto(f"http://127.0.0.1:{pages.port}/api/docs")
    expect(page).to_have_title("Timer service")

    # Then it lists what the service does
    for path in ("/timer", "/livez", "/readyz"):
        summary = page.locator(f'.opblock-summary-path[data-path="{path}"]')
        expect(summary).to_be_visible()
    for text in (
        "Set a timer",
        "Look at a timer",
        "Look at a timer's attempts",
        "Cancel a timer",
        "List timers",
        "Replay a timer that gave up",
    ):
        expect(page.get_by_text(text, exact=True)).to_be_visible()

    # When a timer is set from it
    body = {"hours": 0, "minutes": 0, "seconds": 1, "url": receiver.url()}
    open_operation(page)
    execute(page, json.dumps(body))
    answer = page.locator(".live-responses-table")
    expect(answer.locator("tr.response")).to_contain_text("201")
    expect(answer).to_contain_text('"time_left": 1')

    # Then the receiver is called with the id that the page shows
    eventually(lambda: receiver.calls)
    (call,) = receiver.calls
    expect(answer).to_contain_text(call.timer)

    # And nothing left this machine, or failed on the page
    assert {urlsplit(url).hostname for url in requests} == {"127.0.0.1"}
    assert any(url.endswith("swagger-ui-bundle.js") for url in requests)
    assert complaints == []

    # When a mistake is made, then the page explains it
    execute(page, '{"hours": "1", "minutes": 0, "seconds": 0}')
    expect(answer.locator("tr.response")).to_contain_text("422")
    expect(answer).to_contain_text("must be a whole number, 0 or more")
