"""A real Chromium, which reaches this machine and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

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


@pytest.fixture
def page(chromium: str, service: Service) -> Iterator[Page]:
    """Run Chromium and return an empty page.

    It starts after the service and ends before the database is emptied:
    meanwhile playwright has an event loop on this thread, where Django
    refuses to touch the database.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(FLAGS)
        )
        page = browser.new_page()
        page.set_default_timeout(15_000)
        yield page
        browser.close()
