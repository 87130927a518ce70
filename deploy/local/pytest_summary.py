"""A pytest plugin: says, before its last line, what lacked RabbitMQ."""

import os
from collections.abc import Generator

import pytest

from deploy.local.needs import TO_INSTALL_RABBITMQ


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Count the broker tests that were skipped, after all other summaries."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("rabbitmq" in report.keywords for report in skipped)
    terminalreporter.write_line(
        f"{count} broker tests did NOT run, for want of RabbitMQ. They run "
        f"after: {os.environ[TO_INSTALL_RABBITMQ]}; or with RABBITMQ_URL set."
    )
