"""The service as real processes: web, worker and dispatcher."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.db import connection
from psycopg.conninfo import make_conninfo

from deploy import commands
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, eventually

ROOT = Path(__file__).resolve().parents[2]
#: How many lines of a log are shown when a test fails.
_SHOWN = 30
#: Which the webhooks are signed with, unless a test gives another.
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def database_url() -> str:
    """Return the test database as libpq's connection string."""
    entry = connection.settings_dict
    return make_conninfo(
        dbname=entry["NAME"],
        user=entry["USER"] or None,
        password=entry["PASSWORD"] or None,
        host=entry["HOST"] or None,
        port=entry["PORT"] or None,
    )


class Process:
    """One process of the service, in a process group of its own."""

    def __init__(
        self, name: str, command: list[str], env: dict[str, str], log: Path
    ) -> None:
        self.name = name
        self.command = command
        self.env = env
        self.log = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        _started.append(self)

    @property
    def pid(self) -> int:
        """The process's own id, which is its group's as well."""
        return self._popen.pid

    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the first process of the group only."""
        os.kill(self.pid, number)

    def send_all(self, number: signal.Signals) -> None:
        """Send a signal to every process of the group."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL the whole group and wait for its end."""
        try:
            self.send_all(signal.SIGKILL)
        except ProcessLookupError:
            return
        self._popen.wait(10)

    def stop(self, within: float = 30.0) -> int:
        """TERM it, wait for its end, and return its exit status."""
        if self.is_running():
            self.send(signal.SIGTERM)
        try:
            return self._popen.wait(within)
        finally:
            self.kill()

    def output(self) -> str:
        """Return what it has logged so far."""
        return self.log.read_text(errors="replace")


#: Every process that was started here, for its log.
_started: list[Process] = []


def logged_since(began: float) -> list[tuple[str, str]]:
    """Return the name and last lines of each process that has logged since.

    `began` is in Unix seconds.
    """
    logged = []
    for process in _started:
        with contextlib.suppress(OSError):  # the log of an earlier test
            if process.log.stat().st_mtime >= began:
                lines = process.output().splitlines()[-_SHOWN:]
                logged.append((process.name, "\n".join(lines)))
    return logged


class Service:
    """A set of processes over the test's database.

    With `rabbitmq_url` empty it is the standalone shape. `host` is the
    address that web listens on.
    """

    def __init__(
        self,
        directory: Path,
        rabbitmq_url: str,
        *,
        host: str = "127.0.0.1",
        **settings: str,
    ) -> None:
        self.directory = directory
        self.host = host
        self.port = free_port()
        self.env = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "RABBITMQ_URL": rabbitmq_url,
            "DATA_DIR": str(directory),
            "API_ADDRESS": "127.0.0.1",
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "WEBHOOK_SECRET": SECRET,
            **commands.ENVIRONMENT,
            **settings,
        }
        self.processes: list[Process] = []
        self._count = itertools.count()

    def start(self, name: str, *command: str, **env: str) -> Process:
        """Start a process and note it, to be ended with the test."""
        count = next(self._count)
        log = self.directory / f"{count}-{name}.log"
        process = Process(name, list(command), {**self.env, **env}, log)
        self.processes.append(process)
        return process

    def start_again(self, ended: Process) -> Process:
        """Start another process like one that has ended; don't wait."""
        assert not ended.is_running()
        return self.start(ended.name, *ended.command, **ended.env)

    def start_web(self, port: int = 0, **env: str) -> Process:
        """Start a web process and wait until it answers from Postgres.

        On a busy machine a first connection may take longer than a request
        waits for it.
        """
        return self._wait_for_web(self._begin_web(port, **env), port)

    def start_worker(self, *, processes: int = 1, threads: int = 16,
                     **env: str) -> Process:
        """Start a worker and wait until it has started."""
        worker = self._begin_worker(processes, threads, **env)
        return self._wait_for_worker(worker, processes)

    def start_dispatcher(self, **env: str) -> Process:
        """Start a dispatcher and wait until it has started."""
        return self._wait_for_dispatcher(self._begin_dispatcher(**env))

    def start_all(self, *, threads: int = 16) -> list[Process]:
        """Start web, worker and, with RabbitMQ, dispatcher, all at once."""
        worker = self._begin_worker(1, threads)
        web, *others = self.start_all_but_workers()
        return [web, self._wait_for_worker(worker, 1), *others]

    def start_all_but_workers(self) -> list[Process]:
        """Start web and, with RabbitMQ, dispatcher, at once."""
        started = [self._begin_web()]
        if self.env["RABBITMQ_URL"]:
            started.append(self._begin_dispatcher())
            self._wait_for_dispatcher(started[1])
        self._wait_for_web(started[0])
        return started

    def _begin_web(self, port: int = 0, **env: str) -> Process:
        return self.start(
            "web", *commands.web(self.host, port or self.port, 1)[1:], **env
        )

    def _wait_for_web(self, web: Process, port: int = 0) -> Process:
        eventually(lambda: self._answers(web, port), within=30)
        return web

    def _begin_worker(
        self, processes: int, threads: int, **env: str
    ) -> Process:
        return self.start(
            "worker", *commands.worker(processes, threads)[1:],
            # A few threads are for tests to fill, with one receiver's calls.
            WORKER_THREADS=str(threads if threads >= 64 else 128),
            **env,
        )

    def _wait_for_worker(self, worker: Process, processes: int) -> Process:
        eventually(
            lambda: worker.output().count("worker started") >= processes,
            within=30,
        )
        return worker

    def _begin_dispatcher(self, **env: str) -> Process:
        return self.start("dispatcher", *commands.DISPATCHER[1:], **env)

    def _wait_for_dispatcher(self, dispatcher: Process) -> Process:
        eventually(
            lambda: "dispatcher started" in dispatcher.output(), within=30
        )
        return dispatcher

    def manage(self, *command: str) -> str:
        """Run a management command to its end; return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kill(self, name: str = "") -> None:
        """SIGKILL every process, or every one of that name, all at once."""
        ended = [each for each in self.processes if name in ("", each.name)]
        for process in ended:
            if process.is_running():
                process.send_all(signal.SIGKILL)
        for process in ended:
            process.kill()

    def log(self) -> str:
        """Return what all processes have logged so far."""
        return "".join(process.output() for process in self.processes)

    def _answers(self, web: Process, port: int) -> bool:
        assert web.is_running(), web.output()
        try:
            return self.request("GET", f"/timer/{uuid4()}", port=port)[0] < 500
        except OSError:
            return False

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        port: int = 0,
        key: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Send a request; return the status and the JSON answer."""
        headers = {"content-type": "application/json"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"http://{self.host}:{port or self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def set_timer(self, seconds: int, url: str) -> str:
        """Set a timer over the API and return its id."""
        status, timer = self.request(
            "POST",
            "/timer",
            {"hours": 0, "minutes": 0, "seconds": seconds, "url": url},
        )
        assert status == 201, timer
        return str(timer["id"])

    def set_timers(self, count: int, seconds: int, url: str) -> set[str]:
        """Set timers over the API, eight at a time; return their ids."""
        with ThreadPoolExecutor(8) as pool:
            return set(
                pool.map(lambda _: self.set_timer(seconds, url), range(count))
            )

    def set_timers_fast(self, count: int, seconds: int, url: str) -> set[str]:
        """Set timers one by one; assert that none waits for anything.

        RabbitMQ has 2 s to answer (`apps.broker.link`), and a body 10 s to
        arrive. A create that waited for one of them would take as long.
        """
        timers = set()
        for _ in range(count):
            began = time.monotonic()
            timers.add(self.set_timer(seconds, url))
            assert time.monotonic() - began < 0.5 * PATIENCE
        return timers

    def move_timer(self, timer_id: str, seconds: int) -> dict[str, Any]:
        """Change when a timer fires; return the answer, also of a 409."""
        status, answer = self.request(
            "PATCH",
            f"/timer/{timer_id}",
            {"hours": 0, "minutes": 0, "seconds": seconds},
        )
        assert status in (200, 409), answer
        return answer

    def timer(self, timer_id: str) -> dict[str, Any]:
        """Return a timer as the API shows it."""
        status, timer = self.request("GET", f"/timer/{timer_id}")
        assert status == 200, timer
        return timer
