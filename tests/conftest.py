"""What every layer of tests has: a database, and RabbitMQ or a reason."""

import gc
import os
import re
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from apps.core.database import close_pool, pool
from apps.core.processes import keep_imports
from tests.support.databases import (
    empty_tables,
    have_default_account,
    tables_with_rows,
)
from tests.support.receiver import Receiver
from tests.support.service import logged_since

_UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

HAS_DATABASE = pytest.StashKey[bool]()

# A busy machine may take long for an example. That is no fault of a test's.
hypothesis.settings.register_profile(
    "search",
    deadline=None,
    derandomize=False,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# The same examples each time: a test fails because of what was changed.
hypothesis.settings.register_profile(
    "suite", hypothesis.settings.get_profile("search"), derandomize=True
)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Let tests use the API without keys, and their processes heed Ctrl-C.

    A shell has what it starts in the background ignore it, and whatever
    that starts.
    """
    # Only tests of keys need keys.
    settings.API_ADDRESS, settings.REQUIRE_API_KEY = "127.0.0.1", False
    # Each of the tests' clients would read all static files at its start.
    settings.WHITENOISE_AUTOREFRESH = True
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while tests are collected, nor in what was.

    Modules and tests stay to the end. To visit them all, again and again,
    takes a third of the collection's time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        keep_imports()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep random ids out of a test's name, and thousands of letters.

    pytest-xdist needs the same names in each of its processes.
    """
    if isinstance(val, str) and (len(val) > 500 or _UUID.search(val)):
        return ascii(_UUID.sub("uuid", val[:500])[:40])
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs RabbitMQ where there is none, unless it must run."""
    if os.environ.get("RABBITMQ_URL"):
        return
    if os.environ.get("REQUIRE_RABBITMQ") == "1":
        raise pytest.UsageError(
            "REQUIRE_RABBITMQ=1, and RABBITMQ_URL is not set"
        )
    skip = pytest.mark.skip(reason="needs RabbitMQ (RABBITMQ_URL)")
    for item in items:
        if item.get_closest_marker("rabbitmq"):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what processes have logged during a test that fails."""
    report = yield
    if report.failed:
        report.sections += [
            (f"Log of {name}", text)
            for name, text in logged_since(call.start)
        ]
    return report


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """Have no commit wait for a disk that others use as well.

    No test cuts this server's power. The timers' own pool is closed before
    the database is dropped.
    """
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    request.config.stash[HAS_DATABASE] = True
    yield
    close_pool()


@pytest.fixture(scope="module", autouse=True)
def _leave_no_rows(
    request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Fail a module that leaves rows: the next one's tests would find them.

    The database is looked at only if a test has had it made.
    """
    yield
    if not request.config.stash.get(HAS_DATABASE, False):
        return
    with django_db_blocker.unblock():
        if left := tables_with_rows():
            empty_tables()
    assert not left


@pytest.fixture(scope="session", autouse=True)
def _document() -> None:
    """Make the API's document before a test's settings can get into it."""
    from config.api import api  # needs Django's settings

    _ = api.document


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that answers 200."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def transactional_db(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Let a test use the database, whose tables are emptied afterwards.

    pytest-django's own fixture truncates them, which takes longer than most
    tests.
    """
    with django_db_blocker.unblock():
        have_default_account()
        yield
        empty_tables()


@pytest.fixture
def db_pool(transactional_db: None) -> None:
    """Let a test use the timers' own pool, on an empty table.

    It stays open for other tests: to open it costs more than most of them. On
    a busy machine that takes longer than statements wait for a connection.
    """
    with pool().connection(30):
        pass


@pytest.fixture
def new_pool(transactional_db: None) -> Iterator[None]:
    """Let a test open the timers' own pool, on an empty table."""
    close_pool()
    yield
    close_pool()
