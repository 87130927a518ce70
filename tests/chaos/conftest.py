"""Fixtures of the chaos suite, and the table that it prints."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.chaos.experiment import Experiment, Row
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.servers import OwnPostgres, OwnRabbitMQ
from tests.support.service import Service

_ROWS = pytest.StashKey[list[Row]]()
_TITLES = (
    "fault", "timers", "lost", "twice", "unknown", "late p50", "late p99",
    "normal after", "creates repeated",
)


def pytest_configure(config: pytest.Config) -> None:
    """Begin with an empty table."""
    config.stash[_ROWS] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of it, and leave each experiment more time."""
    for item in items:
        if item.nodeid.startswith("tests/chaos/"):
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.rabbitmq)
            item.add_marker(pytest.mark.timeout(300))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, in Markdown."""
    rows = config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section("what became of the timers")
    terminalreporter.write_line(f"| {' | '.join(_TITLES)} |")
    terminalreporter.write_line("|---" * len(_TITLES) + "|")
    for row in rows:
        terminalreporter.write_line(
            f"| {row.fault} | {row.timers} | {row.lost} | {row.twice}"
            f" | {row.unknown} | {row.late_p50 * 1000:.0f} ms"
            f" | {row.late_p99 * 1000:.0f} ms"
            f" | {row.normal_after:.1f} s | {row.refused} |"
        )


@pytest.fixture(scope="session")
def postgres(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OwnPostgres]:
    """Start a Postgres that may be killed."""
    directory = tmp_path_factory.mktemp("postgres")
    with OwnPostgres(directory) as server:
        migrate(server, directory)
        yield server


def migrate(server: OwnPostgres, directory: Path) -> None:
    """Make the tables, once for all experiments."""
    service = Service(directory, "", DATABASE_URL=server.url)
    service.manage("migrate", "--verbosity", "0")


@pytest.fixture(scope="session")
def rabbitmq(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OwnRabbitMQ]:
    """Start a RabbitMQ that may be killed."""
    with OwnRabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def management(rabbitmq: OwnRabbitMQ) -> Management:
    """Return RabbitMQ's management API."""
    return Management(rabbitmq.management_url, "%2F")


@pytest.fixture
def service(
    postgres: OwnPostgres,
    rabbitmq: OwnRabbitMQ,
    management: Management,
    tmp_path: Path,
) -> Iterator[Service]:
    """Return a service of which nothing runs yet, without timers."""
    # The experiment before may have failed while one was down.
    postgres.start()
    rabbitmq.start()
    for queue in management.queues():
        management.delete_queue(queue)
    service = Service(tmp_path, rabbitmq.url, DATABASE_URL=postgres.url)
    with psycopg.connect(postgres.url) as link:
        link.execute("TRUNCATE timer, attempt")
    yield service
    service.kill()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Return a receiver that takes up to a second to answer 200."""
    receiver = Receiver()
    receiver.jitter = 1.0
    yield receiver
    receiver.close()


@pytest.fixture
def experiment(
    service: Service, postgres: OwnPostgres, receiver: Receiver
) -> Callable[..., Experiment]:
    """Make experiments over the service's one web process, or over more."""

    def make(fault: str, *ports: int) -> Experiment:
        webs = [("127.0.0.1", port) for port in ports or [service.port]]
        return Experiment(fault, webs, receiver, postgres.url)

    return make


@pytest.fixture
def note(
    request: pytest.FixtureRequest,
) -> Callable[[Row], Row]:
    """Put a row into the table that is printed in the end."""

    def note(row: Row) -> Row:
        request.config.stash[_ROWS].append(row)
        return row

    return note
