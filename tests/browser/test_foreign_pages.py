"""Pages of other sites neither drive the service nor show its own."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.support.receiver import Receiver
from tests.support.service import Service
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser

#: A form needs no permission to be posted to another site; its text is
#: JSON, since a field's name is followed by "=" and its value.
PAGE = """<!doctype html><title>other</title>
<form method=post enctype=text/plain action=ADDRESS/timer>
<input name='START' value='"}'><button>Send</button></form>
<iframe src=ADDRESS/api/docs></iframe>"""


@pytest.fixture
def site() -> Iterator[Receiver]:
    """Return a web server for another site's page."""
    site = Receiver()
    yield site
    site.close()


def test_a_form_of_another_site_sets_no_timer(
    pages: Service, page: Page, receiver: Receiver, site: Receiver
) -> None:
    # Given another site's page, whose form is a timer that is due at once
    address = f"http://127.0.0.1:{pages.port}"
    timer = {"hours": 0, "minutes": 0, "seconds": 0, "url": receiver.url()}
    start = json.dumps({**timer, "body": ""}).removesuffix('"}')
    site.headers = {"content-type": "text/html"}
    html = PAGE.replace("ADDRESS", address).replace("START", start)
    site.answer = html.encode()

    for host in ("127.0.0.1", "localhost"):
        # Then it can't show the service's own page in a frame
        with page.expect_console_message(
            lambda message: "frame-ancestors" in message.text
        ):
            page.goto(site.url("/").replace("127.0.0.1", host))

        # When the form is sent
        with page.expect_response(f"{address}/timer") as found:
            page.get_by_role("button", name="Send").click()

        # Then it is refused, and says why
        assert found.value.status == 403
        assert "another site" in found.value.text()

    # And a request without the browser's headers, as a program sends it, is
    # not: the form was a timer
    status, _ = pages.request("POST", "/timer", timer)
    assert status == 201
    eventually(lambda: receiver.calls)
    assert len(receiver.calls) == 1
