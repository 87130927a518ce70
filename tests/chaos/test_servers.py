"""Several servers; some are killed, some cut off from what they need.

Each server is a network namespace with a web, a worker and a dispatcher of
its own. The tests, and all else, are in the hub.
"""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from deploy.local.postgres import DATABASE, USER
from tests.chaos.conftest import migrate
from tests.chaos.experiment import Experiment, Note
from tests.chaos.namespaces import (
    ADDRESSES,
    HUB,
    NETWORK,
    Network,
    missing,
)
from tests.support.rabbitmq import Management
from tests.support.receiver import Receiver
from tests.support.servers import OwnPostgres, OwnRabbitMQ
from tests.support.service import Service
from tests.support.waiting import eventually

Start = Callable[..., list[Service]]

#: A claim holds so long, and what it held goes on so soon after.
LEASE, AFTER = 20.0, 2.0
#: What a busy machine may add to that.
NOISE = 1.0
#: A request that left within so many seconds of a fault may not have been
#: marked. Who has just claimed a timer sends it without asking again.
WINDOW = 0.25

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Make a hub and three servers, and be in the hub from now on."""
    network = Network("a", "b", "c")
    try:
        with network.inside(HUB):
            yield network
    finally:
        network.close()


@pytest.fixture(scope="module")
def postgres(
    network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnPostgres]:
    """Start a Postgres that servers reach at the hub's address for it."""
    directory = tmp_path_factory.mktemp("postgres")
    with OwnPostgres(
        directory, listen_addresses=ADDRESSES["postgres"]
    ) as server:
        migrate(server, directory)
        with psycopg.connect(server.url, autocommit=True) as link:
            ((path,),) = link.execute("SHOW hba_file").fetchall()
            with Path(path).open("a") as file:
                file.write(f"host all all {NETWORK} trust\n")
            link.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def rabbitmq(
    network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnRabbitMQ]:
    """Start a RabbitMQ that servers reach at the hub's address for it."""
    directory = tmp_path_factory.mktemp("rabbitmq")
    server = OwnRabbitMQ(directory)
    more = directory / "rabbitmq" / "conf.d"
    more.mkdir()
    port = urlsplit(server.url).port
    (more / "listen.conf").write_text(
        f"listeners.tcp.2 = {ADDRESSES['rabbitmq']}:{port}\n"
    )
    with server:
        yield server


@pytest.fixture
def start(
    network: Network,
    postgres: OwnPostgres,
    rabbitmq: OwnRabbitMQ,
    management: Management,
    tmp_path: Path,
) -> Iterator[Start]:
    """Start servers of these names, over a database without timers."""
    servers: dict[str, Service] = {}
    rabbitmq_url = rabbitmq.url.replace("127.0.0.1", ADDRESSES["rabbitmq"])
    postgres_url = f"postgresql://{USER}@{ADDRESSES['postgres']}/{DATABASE}"

    def make(name: str) -> None:
        directory = tmp_path / name
        directory.mkdir()
        address = network.address(name)
        servers[name] = Service(
            directory,
            rabbitmq_url,
            host=address,
            DATABASE_URL=postgres_url,
            ALLOWED_HOSTS=address,
            WEBHOOK_ALLOWED_NETWORKS=NETWORK,
        )

    def start_one(name: str) -> Service:
        with network.inside(name):
            servers[name].start_all(threads=64)
        return servers[name]

    def start(*names: str) -> list[Service]:
        for queue in management.queues():
            management.delete_queue(queue)
        for name in names:
            make(name)
        with psycopg.connect(postgres.url) as link:
            link.execute("TRUNCATE timer, attempt")
        with ThreadPoolExecutor() as pool:
            return list(pool.map(start_one, names))

    yield start
    for server in servers.values():
        server.kill()


@pytest.fixture
def receiver(network: Network) -> Iterator[Receiver]:
    """Return a receiver at the hub's address, up to a second slow."""
    receiver = Receiver(host=ADDRESSES["clients"])
    receiver.jitter = 1.0
    yield receiver
    receiver.close()


@pytest.fixture
def begin(
    postgres: OwnPostgres, receiver: Receiver
) -> Callable[..., Experiment]:
    """Begin an experiment; return when timers have begun to fire."""

    def begin(
        fault: str, servers: list[Service], count: int, rate: float
    ) -> Experiment:
        webs = [(server.host, server.port) for server in servers]
        timers = Experiment(fault, webs, receiver, postgres.url)
        timers.set_timers(count, rate=rate, seconds=range(1, 9))
        eventually(lambda: len(receiver.calls) > 3 * rate, within=30)
        return timers

    return begin


Begin = Callable[[str, list[Service], int, float], Experiment]


def test_a_link_that_is_cut_says_nothing(
    network: Network, receiver: Receiver
) -> None:
    def connect(server: str) -> None:
        with network.inside(server):
            # It takes 3 s to find that a neighbour does not answer.
            address = ADDRESSES["clients"], receiver.port
            socket.create_connection(address, timeout=4).close()

    with network.cut(("a", "clients")):
        with pytest.raises(TimeoutError):
            connect("a")
        connect("b")
    connect("a")


@pytest.mark.parametrize(
    "links",
    [("postgres",), ("rabbitmq",), ("postgres", "rabbitmq")],
    ids=" and ".join,
)
def test_one_of_two_servers_is_cut_off(
    network: Network,
    start: Start,
    begin: Begin,
    receiver: Receiver,
    note: Note,
    links: tuple[str, ...],
) -> None:
    servers = start("a", "b")
    fault = f"one of two servers cut off from {' and '.join(links)} for 30 s"
    timers = begin(fault, servers, 2_500, 75)
    timers.struck()
    struck_at = time.time()
    with network.cut(*(("a", link) for link in links)):
        time.sleep(30)
    timers.healed()
    row = note(timers.judge(within=90))
    print(f"the latest call was {row.late_max:.1f} s late")
    assert row.lost == 0
    assert row.twice <= 3
    assert_in_window(receiver, struck_at)
    assert row.late_max < LEASE + AFTER + NOISE
    assert row.late_p50 < 1
    for server in servers:
        assert_unharmed(server)


def test_one_server_is_killed_and_another_cut_off(
    network: Network,
    postgres: OwnPostgres,
    start: Start,
    begin: Begin,
    receiver: Receiver,
    note: Note,
) -> None:
    servers = start("a", "b", "c")
    fault = "of three servers one killed, one cut off for 30 s"
    timers = begin(fault, servers, 5_000, 100)
    timers.struck()
    struck_at = time.time()
    servers[0].kill()
    with network.cut(("b", "postgres"), ("b", "rabbitmq")):
        eventually(
            lambda: not claimed_before(postgres, struck_at),
            within=LEASE + AFTER + NOISE,
        )
        ended_after = time.time() - struck_at
        time.sleep(max(0, 30 - ended_after))
    timers.healed()
    row = note(timers.judge(within=90))
    print(f"what was claimed had ended after {ended_after:.1f} s")
    print(f"the latest call was {row.late_max:.1f} s late")
    assert row.lost == 0
    assert row.twice <= 3
    assert_in_window(receiver, struck_at)
    assert row.late_max < LEASE + AFTER + NOISE
    for server in servers[1:]:
        assert_unharmed(server)


def test_all_servers_are_cut_off_from_rabbitmq(
    network: Network, start: Start, begin: Begin, note: Note
) -> None:
    servers = start("a", "b")
    timers = begin("all cut off from RabbitMQ for 10 s", servers, 2_000, 100)
    with network.cut(("a", "rabbitmq"), ("b", "rabbitmq")):
        time.sleep(10)
    timers.healed()
    row = note(timers.judge(within=90))
    assert row.lost == row.twice == row.unknown == row.refused == 0
    assert row.normal_after < 30
    for server in servers:
        assert_unharmed(server)


def test_all_servers_are_cut_off_from_postgres(
    network: Network, start: Start, begin: Begin, note: Note
) -> None:
    servers = start("a", "b")
    timers = begin("all cut off from Postgres for 25 s", servers, 1_500, 75)
    timers.struck()
    with network.cut(("a", "postgres"), ("b", "postgres")):
        time.sleep(LEASE + 5)
    timers.healed()
    row = note(timers.judge(within=90))
    assert row.lost == row.twice == 0
    assert row.normal_after < 30
    for server in servers:
        assert_unharmed(server)


def claimed_before(postgres: OwnPostgres, moment: float) -> int:
    """Count the timers that have been claimed since before a moment."""
    with psycopg.connect(postgres.url) as link:
        ((count,),) = link.execute(
            "SELECT count(*) FROM timer"
            " WHERE outcome IS NULL AND fired_at < to_timestamp(%s)",
            [moment],
        ).fetchall()
    return int(count)


def assert_in_window(receiver: Receiver, struck_at: float) -> None:
    """Assert that what was called twice was first called at the fault."""
    counts = receiver.counts()
    seen = set()
    for call in receiver.calls:
        if counts[call.timer] > 1 and call.timer not in seen:
            assert abs(call.arrived - struck_at) < WINDOW + NOISE
        seen.add(call.timer)


def assert_unharmed(server: Service) -> None:
    """Assert that none of its processes has ended, or a child of theirs."""
    assert all(process.is_running() for process in server.processes)
    assert server.log().count("worker started") == 1
