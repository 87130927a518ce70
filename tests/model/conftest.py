"""Fixtures of the model."""

import logging
from collections.abc import Iterator

import pytest

from tests.model.postgres import Postgres, still_postgres


@pytest.fixture(scope="package")
def postgres(django_db_setup: None) -> Iterator[Postgres]:
    """Return a Postgres whose clock stands still."""
    logging.disable(logging.CRITICAL)
    with still_postgres() as postgres:
        yield postgres
    logging.disable(logging.NOTSET)
