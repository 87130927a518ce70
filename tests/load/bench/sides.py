"""What is compared: the service and its rivals, as processes.

Each has a database and a virtual host of its own on the same two servers,
and they run one after the other.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psutil  # type: ignore[import-untyped]
import psycopg

from deploy import commands
from deploy.local.output import Output
from deploy.local.processes import Child, Service, Tether, tail
from deploy.local.services import ROOT
from tests.load.bench.receiver import Receiver
from tests.load.bench.usage import tree
from tests.support.ports import free_port
from tests.support.rabbitmq import virtual_host
from tests.support.servers import OwnPostgres, OwnRabbitMQ
from tests.support.waiting import eventually

_RIVALS = "tests.load.bench.rivals"
#: As `make stack` has them, and so everybody else.
PROCESSES, THREADS = 2, 64

#: In the order that they are measured in.
NAMES = "service", "textbook", "celery", "procrastinate", "apscheduler"

#: What a part of the service has in its command line.
_PARTS = {
    "web": "config.web", "worker": "dramatiq", "dispatcher": "dispatch_timers",
}
#: Due over a day, a day from now, or all at once in the past.
_SEED = """
INSERT INTO timer (id, url, created_at, due_at, next_at)
SELECT uuidv7(), %(url)s, now(), due, due
FROM generate_series(1, %(count)s) AS n,
     LATERAL (SELECT now() + make_interval(secs => %(seconds)s
                  + CASE WHEN %(seconds)s > 0
                    THEN 86400.0 * n / %(count)s ELSE 0 END) AS due) AS times
"""


@dataclass
class Ground:
    """The servers and the receiver that all of them use."""

    directory: Path
    postgres: OwnPostgres
    rabbitmq: OwnRabbitMQ
    receiver: Receiver

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make an empty database; give its URL."""
        with psycopg.connect(self.postgres.url, autocommit=True) as link:
            link.execute(f"CREATE DATABASE {name}")
            parts = urlsplit(self.postgres.url)
            try:
                yield urlunsplit(parts._replace(path=f"/{name}"))
            finally:
                link.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Side:
    """One of what is compared: begun anew by each `with`."""

    def __init__(self, name: str, title: str, ground: Ground) -> None:
        self.name = name
        self.title = title
        self.ground = ground
        self.receiver = ground.receiver
        self.port = free_port()
        self.database_url = ""
        self._env: dict[str, str] = {}
        self._children: list[Child] = []
        self._exits = ExitStack()
        self._starts = 0

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            self.database_url = exits.enter_context(
                self.ground.database(f"bench_{self.name}")
            )
            rabbitmq = self.ground.rabbitmq
            url, _ = exits.enter_context(
                virtual_host(rabbitmq.url, rabbitmq.management_url)
            )
            self._env = self._environment(self.database_url, url)
            self._tether = Tether()
            exits.callback(self._tether.close)
            exits.callback(self.stop)
            self._prepare()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _environment(self, database: str, rabbitmq: str) -> dict[str, str]:
        return {
            **os.environ, **commands.ENVIRONMENT,
            "DATABASE_URL": database, "RABBITMQ_URL": rabbitmq,
        }

    def _prepare(self) -> None:
        raise NotImplementedError

    def _commands(self) -> dict[str, list[str]]:
        """Return what to run, after the interpreter, by its part's name."""
        raise NotImplementedError

    def seed(self, count: int, seconds: int, url: str) -> None:
        """Set many timers past the API; `seconds` below 0 are past."""
        raise NotImplementedError

    def start(self) -> None:
        """Start every process; wait for none of them."""
        for name, command in self._commands().items():
            self._starts += 1
            log = self.ground.directory / f"{self.name}-{self._starts}.log"
            service = Service(
                name, [sys.executable, *command], self._env,
                log=log, directory=ROOT,
            )
            output = Output(sys.stderr.buffer, as_json=False)
            child = Child(service, output)
            self._children.append(child)
            self._tether.hold(child)

    def wait(self, within: float = 120.0) -> None:
        """Wait until web takes connections."""
        eventually(self._answers, within=within, every=0.05)

    def _answers(self) -> bool:
        for child in self._children:
            assert not child.has_ended(), child.outcome()
        return _accepts(self.port)

    def stop(self) -> None:
        """Stop every process."""
        for child in self._children:
            child.ask_to_stop()
        for child in self._children:
            child.wait(60)
            child.finish()
            self._tether.release(child.pid)
        self._children.clear()

    def said(self) -> str:
        """Return the last lines that its processes have written."""
        logs = sorted(self.ground.directory.glob(f"{self.name}-*.log"))
        return "".join(tail(log) for log in logs)

    def parts(self) -> dict[str, list[int]]:
        """Return the processes of each part, servers included."""
        return {
            **self._own_parts(),
            "postgres": self.ground.postgres.pids(),
            "rabbitmq": self.ground.rabbitmq.pids(),
        }

    def _own_parts(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for child in self._children:
            part = found.setdefault(child.service.name.split()[0], [])
            part += tree(child.pid)
        return found

    def _run(self, *command: str) -> None:
        subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self._env, check=True
        )


class Stack(Side):
    """The service, as `make stack` runs it."""

    def _environment(self, database: str, rabbitmq: str) -> dict[str, str]:
        directory = self.ground.directory / "stack"
        return {
            **super()._environment(database, rabbitmq),
            "PORT": str(self.port),
            "DATA_DIR": str(directory),
            "WORKER_PROCESSES": str(PROCESSES),
            "WORKER_THREADS": str(THREADS),
            "WEB_WORKERS": str(PROCESSES),
        }

    def _prepare(self) -> None:
        self._run(*commands.MIGRATE[1:])

    def _commands(self) -> dict[str, list[str]]:
        return {"supervisor": ["-m", "deploy.local", "stack"]}

    def seed(self, count: int, seconds: int, url: str) -> None:
        """Insert rows as a stop would leave them: no message is there."""
        values = {"count": count, "seconds": seconds, "url": url}
        with psycopg.connect(self.database_url, autocommit=True) as link:
            link.execute(_SEED, values)
            link.execute("VACUUM ANALYZE timer")

    def _own_parts(self) -> dict[str, list[int]]:
        (supervisor,) = self._children
        found = {"supervisor": [supervisor.pid]}
        for child in psutil.Process(supervisor.pid).children():
            words = " ".join(child.cmdline())
            for name, word in _PARTS.items():
                if word in words:
                    found[name] = tree(child.pid)
        return found


class Rival(Side):
    """Another way to do the same, behind the same web server."""

    def __init__(
        self,
        name: str,
        title: str,
        ground: Ground,
        worker: Sequence[str] = (),
        *,
        workers: int = 1,
        web_processes: int = PROCESSES,
    ) -> None:
        super().__init__(name, title, ground)
        self._worker = worker
        self._workers = workers
        self._web_processes = web_processes

    def _environment(self, database: str, rabbitmq: str) -> dict[str, str]:
        return {
            **super()._environment(database, rabbitmq),
            "RIVAL": self.name,
            "DJANGO_SETTINGS_MODULE": f"{_RIVALS}.settings",
        }

    def _prepare(self) -> None:
        self._run("-m", _RIVALS, "prepare")

    def _commands(self) -> dict[str, list[str]]:
        web = commands.web("127.0.0.1", self.port, self._web_processes)
        # Without the service's front, which has more threads, and its
        # handling of signals.
        web[web.index("config.web")] = "granian"
        web[web.index("--blocking-threads") + 1] = "64"
        found = {"web": [*web[1:-1], f"{_RIVALS}.wsgi:application"]}
        for index in range(self._workers if self._worker else 0):
            found[f"worker {index}"] = [
                word.format(index) for word in self._worker
            ]
        return found

    def seed(self, count: int, seconds: int, url: str) -> None:
        """Set timers with the rival's own functions."""
        self._run("-m", _RIVALS, "seed", str(count), str(seconds), url)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sides(ground: Ground) -> list[Side]:
    """Return everything that is compared, the ceiling first.

    Every setting that is not named here is the tool's own default.
    """
    threads = str(THREADS)
    return [
        Rival("ceiling", "no-op; bare loop", ground),
        Stack("service", "this service", ground),
        Rival(
            "textbook", "ORM + Dramatiq delay", ground,
            ["-m", "dramatiq", f"{_RIVALS}.textbook", "--skip-logging",
             "--processes", str(PROCESSES), "--threads", threads],
        ),
        Rival(
            "celery", "Celery countdown", ground,
            ["-m", "celery", "-A", f"{_RIVALS}.celery", "worker",
             "--pool", "threads", "--concurrency", threads,
             "--hostname", "worker{}@localhost", "--loglevel", "error",
             "--without-gossip", "--without-mingle"],
            workers=PROCESSES,
        ),
        Rival(
            "procrastinate", "Procrastinate schedule_in", ground,
            ["-m", "procrastinate", "--app", f"{_RIVALS}.procrastinate.app",
             "worker", "--concurrency", threads, "--name", "worker{}"],
            workers=PROCESSES,
        ),
        Rival(
            "apscheduler", "APScheduler, Postgres store", ground,
            web_processes=1,
        ),
    ]
