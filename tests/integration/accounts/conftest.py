"""Fixtures for tests of accounts."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from apps.accounts import limits
from tests.support.limits import Team


@pytest.fixture
def team(db_pool: None, settings: Settings) -> Iterator[Team]:
    """Make an account with a key; requests need one."""
    settings.REQUIRE_API_KEY = True
    yield Team()
    limits.forget()
