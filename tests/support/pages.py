"""Pages in a browser: opened, and judged as people need them."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.support.service import Service

#: axe-core, and how it is run. `Axe.run` would load it anew each time, and
#: return what it found well, which takes as long as to look at a page.
AXE = Axe().axe_script
VIOLATIONS = """
() => axe.run({ resultTypes: ["violations"] }).then((all) => all.violations)
"""


def new_page(browser: Browser, **options: Any) -> Page:
    """Return an empty page that waits for at most 15 s."""
    page = browser.new_page(**options)
    page.set_default_timeout(15_000)
    expect.set_options(timeout=15_000)
    return page


def open_page(
    browser: Browser, service: Service, path: str, **options: Any
) -> Page:
    """Open a page of the service."""
    page = new_page(browser, **options)
    page.goto(f"http://127.0.0.1:{service.port}{path}")
    return page


def assert_accessible(page: Page) -> None:
    """Assert that axe-core finds nothing serious."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(VIOLATIONS)
    serious = [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found if each["impact"] in ("serious", "critical")
    ]
    assert serious == [], serious


def assert_fits(page: Page) -> None:
    """Assert that nothing of the page is beyond the window's right side."""
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.evaluate("window.innerWidth")


def assert_good_to_use(page: Page) -> None:
    """Assert both, on a desktop in the light and on a phone in the dark."""
    for width, scheme in ((360, "dark"), (1280, "light")):
        page.set_viewport_size({"width": width, "height": 740})
        page.emulate_media(
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        assert_fits(page)
        assert_accessible(page)
