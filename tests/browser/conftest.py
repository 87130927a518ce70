"""A real Chromium, which reaches this machine and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from deploy.local import needs
from tests.support.service import Service

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the system's Chromium, or skip."""
    found = needs.chromium()
    if found is None:
        pytest.skip("no Chromium is installed (chromium or google-chrome)")
    return found


@pytest.fixture
def service(db_pool: None, tmp_path: Path) -> Iterator[Service]:
    """Run the standalone service."""
    service = Service(tmp_path, "")
    service.start_all()
    yield service
    service.kill()


@contextmanager
def _run(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(FLAGS)
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: str, service: Service) -> Iterator[Page]:
    """Run Chromium and return an empty page.

    It starts after the service and ends before the database is emptied:
    meanwhile playwright has an event loop on this thread, where Django
    refuses to touch the database.
    """
    with _run(chromium) as browser:
        page = browser.new_page()
        page.set_default_timeout(15_000)
        yield page


@pytest.fixture(scope="module")
def pages(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run the standalone service with inboxes, for all of a module."""
    service = Service(tmp_path_factory.mktemp("pages"), "")
    service.env["INBOX"] = f"http://127.0.0.1:{service.port}"
    service.start_all()
    yield service
    service.kill()


@pytest.fixture
def browser(
    chromium: str, pages: Service, db_pool: None
) -> Iterator[Browser]:
    """Run Chromium; it ends before the database is emptied, as `page` does."""
    with _run(chromium) as browser:
        yield browser
