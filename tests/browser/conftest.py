"""A real Chromium, which reaches this machine and nothing else."""

from collections.abc import Iterator

import pytest
from django.db import connections
from playwright.sync_api import Browser, Page, sync_playwright

from deploy.local import needs
from tests.support.pages import new_page
from tests.support.ports import free_port
from tests.support.service import Service

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
    # Each window has an address bar, whose popups are pages of their own: they
    # take more CPU than ours. So does a process kept for the next page.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,"
    "SpareRendererForSitePerProcess",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the system's Chromium, or skip."""
    found = needs.chromium()
    if found is None:
        pytest.skip("no Chromium is installed (chromium or google-chrome)")
    return found


@pytest.fixture(scope="package")
def running_pages(
    chromium: str,
    django_db_setup: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run the standalone service with inboxes, for all browser tests.

    It ends with them: other tests' timers are not for it to call.
    """
    service = Service(tmp_path_factory.mktemp("pages"), "")
    service.env["INBOX"] = f"http://127.0.0.1:{service.port}"
    service.env["INBOX_RESET_PORT"] = str(free_port())
    service.start_all()
    yield service
    service.kill()


@pytest.fixture
def pages(running_pages: Service, db_pool: None) -> Service:
    """Return the running service, on empty tables."""
    return running_pages


@pytest.fixture(scope="package")
def running_browser(
    chromium: str, running_pages: Service
) -> Iterator[Browser]:
    """Run Chromium for all browser tests.

    Meanwhile playwright has an event loop on this thread, where Django would
    refuse to touch the database. No other task of that loop does.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        sync_playwright() as playwright,
    ):
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(FLAGS)
        )
        yield browser
        browser.close()
        # Django has another connection here, which nobody could close later.
        connections.close_all()


@pytest.fixture
def browser(running_browser: Browser, pages: Service) -> Iterator[Browser]:
    """Return Chromium without any page, cookie or stored file."""
    yield running_browser
    for context in running_browser.contexts:
        context.close()


@pytest.fixture
def page(browser: Browser) -> Page:
    """Return an empty page."""
    return new_page(browser)
