"""RabbitMQ and PostgreSQL of a test's own, to be stopped and killed."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import LiteralString, Self

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg.conninfo import conninfo_to_dict

from deploy.local.needs import pgbouncer, rabbitmq_server
from deploy.local.output import Output
from deploy.local.postgres import DATABASE, USER, Postgres
from deploy.local.processes import Child, Service, Tether
from deploy.local.rabbitmq import NODE, RabbitMQ
from tests.support.line import BadLine
from tests.support.ports import free_port
from tests.support.waiting import eventually

_SECOND = "second@localhost"


class _Server:
    """One service of `deploy.local`; it ends with the test's process."""

    def __init__(
        self, service: Service, is_ready: Callable[[], bool]
    ) -> None:
        self._service = service
        self.is_ready = is_ready
        self._tether = Tether()
        self._child: Child | None = None

    @property
    def service(self) -> Service:
        """How it is run."""
        return self._service

    @property
    def env(self) -> Mapping[str, str]:
        """The environment that it runs in."""
        return self._service.env

    def start(self) -> None:
        """Start it unless it runs; wait until clients can log in."""
        self.launch()
        eventually(self.is_ready, within=60, every=0.05)

    def launch(self) -> None:
        """Start it unless it runs; don't wait."""
        if self._child is not None and not self._child.has_ended():
            return
        self.kill()
        # It writes to a file of its own; nothing is forwarded.
        output = Output(sys.stderr.buffer, as_json=False)
        self._child = Child(self._service, output)
        self._tether.hold(self._child)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        assert self._child is not None
        self._child.ask_to_stop()
        assert self._child.wait(30)
        self.kill()

    def pids(self) -> list[int]:
        """Return the ids of its processes; Postgres's have own groups."""
        if self._child is None:
            return []
        head = psutil.Process(self._child.pid)
        return [head.pid, *(c.pid for c in head.children(recursive=True))]

    def kill(self) -> None:
        """SIGKILL it, and what it has started."""
        if self._child is not None:
            self._child.finish()
            self._tether.release(self._child.pid)
            self._child = None

    def close(self) -> None:
        """Leave nothing running."""
        self.kill()
        self._tether.close()

    def __enter__(self) -> Self:
        """Start it; it is closed when it can't be, too."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OwnRabbitMQ(_Server):
    """A RabbitMQ with its management API, its files in `directory`."""

    def __init__(self, directory: Path) -> None:
        node = RabbitMQ(directory, os.environ)
        epmd, broker = node.services()
        super().__init__(broker, node.is_ready)
        self.directory = directory
        self.url = node.url
        self.management_url = node.management_url
        self._booted = directory / "rabbitmq" / "booted"
        self.epmd = _Server(epmd, lambda: True)
        self.epmd.start()

    def wipe(self) -> None:
        """SIGKILL it, and delete all of its data."""
        self.kill()
        # The next start sees a node that never was.
        self._booted.unlink()

    def control(self, *command: str) -> None:
        """Run rabbitmqctl."""
        _rabbitmqctl(self.env, *command)

    def close(self) -> None:
        """Leave nothing running, its epmd included."""
        super().close()
        self.epmd.close()


class SecondNode(_Server):
    """Another node of a RabbitMQ's cluster, its files in `directory`."""

    def __init__(self, first: OwnRabbitMQ, directory: Path) -> None:
        self._first = first
        home = directory / "rabbitmq"
        home.mkdir()
        # A cluster has one login, one cookie (in HOME) and here one epmd.
        shutil.copy(first.directory / "rabbitmq" / "password", home)
        node = RabbitMQ(directory, os.environ)
        _, broker = node.services()
        shared = {key: first.env[key] for key in ("HOME", "ERL_EPMD_PORT")}
        env = {**broker.env, **shared, "RABBITMQ_NODENAME": _SECOND}
        super().__init__(replace(broker, env=env), node.is_ready)
        self.url = node.url

    def start(self) -> None:
        """Start it and have it join the cluster."""
        super().start()
        for command in ("stop_app",), ("join_cluster", NODE), ("start_app",):
            _rabbitmqctl(self.env, *command)

    def close(self) -> None:
        """Leave nothing running, and the first node alone."""
        super().close()
        self._first.control("forget_cluster_node", _SECOND)


def _rabbitmqctl(env: Mapping[str, str], *command: str) -> None:
    server = rabbitmq_server()
    assert server is not None
    subprocess.run(
        [server.with_name("rabbitmqctl"), *command],
        env=dict(env),
        check=True,
        capture_output=True,
        timeout=60,
    )


class OwnPostgres(_Server):
    """The wheel's PostgreSQL, its data in `directory`.

    The `settings` are PostgreSQL's own, over those that it has anyway.
    """

    def __init__(self, directory: Path, **settings: str) -> None:
        self._postgres = Postgres(directory, os.environ)
        usual = self._postgres.service()
        options = [f"--{key}={value}" for key, value in settings.items()]
        service = replace(usual, command=[*usual.command, *options])
        super().__init__(service, self._postgres.is_ready)
        self.url = self._postgres.url

    def ask(self, query: LiteralString) -> int:
        """Ask it for a number; it is another server than the test's."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def connect(self) -> socket.socket:
        """Return a new connection, on which nothing was said yet."""
        where = conninfo_to_dict(self.url)
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(f"{where['host']}/.s.PGSQL.{where['port']}")
        except OSError:
            link.close()
            raise
        return link

    def close(self) -> None:
        """Leave nothing running, and no data."""
        super().close()
        self._postgres.remove()


class OwnPgBouncer(_Server):
    """PgBouncer in transaction mode before `postgres`.

    It has `connections` to the server for all of its clients.
    """

    def __init__(self, postgres: OwnPostgres, *, connections: int) -> None:
        port = free_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}"
        behind = conninfo_to_dict(postgres.url)
        server = postgres.service
        assert server.directory is not None
        settings = server.directory / "pgbouncer.ini"
        settings.write_text(f"""
[databases]
{DATABASE} = host={behind["host"]} port={behind["port"]} user={USER}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
""")
        program = pgbouncer()
        assert program is not None
        service = replace(
            server, name="pgbouncer", command=[program, str(settings)],
            prepare=lambda: None,
        )
        super().__init__(service, self._answers)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


class PostgresLine(BadLine):
    """A bad line to a Postgres of a test's own."""

    def __init__(self, server: OwnPostgres) -> None:
        super().__init__(server.connect)
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/{DATABASE}"
