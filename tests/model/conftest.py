"""Fixtures of the model."""

import logging
from collections.abc import Iterator

import pytest

from tests.model.postgres import Postgres, still_postgres


@pytest.fixture(scope="module")
def postgres(django_db_setup: None) -> Iterator[Postgres]:
    """Return a Postgres whose clock stands still."""
    with still_postgres() as postgres:
        yield postgres


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Log nothing: thousands of workers die."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
