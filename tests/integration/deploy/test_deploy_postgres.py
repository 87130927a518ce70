"""The private PostgreSQL: what it survives, and whom it lets in."""

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from deploy.local.output import to_terminal
from deploy.local.postgres import Postgres
from deploy.local.processes import Child

WaitUntil = Callable[[Callable[[], object], float], None]


class Server:
    """A server that a test starts, kills and starts again."""

    def __init__(self, directory: Path, wait_until: WaitUntil) -> None:
        self.postgres = Postgres(directory, os.environ)
        self._wait_until = wait_until
        self._children: list[Child] = []

    def start(self) -> Child:
        output = to_terminal(as_json=False)
        child = Child(self.postgres.service(), output)
        self._children.append(child)
        self._wait_until(self.postgres.is_ready, 60)
        return child

    def query(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.postgres.url) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        for child in self._children:
            child.ask_to_stop()
            child.wait(20)
            child.finish()
        self.postgres.remove()


@pytest.fixture(params=["short", "long"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, wait_until: WaitUntil
) -> Iterator[Server]:
    directory = tmp_path
    if request.param == "long":
        directory = tmp_path / ("x" * 100) / ("y" * 100)
        directory.mkdir(parents=True)
    directory.chmod(0o700)
    running = Server(directory, wait_until)
    yield running
    running.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_it_outlives_a_kill_and_its_owner_alone_reaches_it(
    server: Server,
) -> None:
    # Given a server: it is durable, and its owner alone reaches it
    first = server.start()
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        assert server.query(f"SHOW {name}") == [("on",)]
    assert server.query("SHOW listen_addresses") == [("",)]
    [(sockets,)] = server.query("SHOW unix_socket_directories")
    assert stat.S_IMODE(Path(str(sockets)).stat().st_mode) == 0o700

    # When it is left running, and started again, Then it is stopped first
    server.query("CREATE TABLE kept (n int)")
    second = server.start()
    assert first.has_ended()
    assert not second.has_ended()
    assert server.query("SELECT n FROM kept") == []

    # When it is killed, Then what was committed outlives that
    server.query("INSERT INTO kept VALUES (7)")
    [(data,)] = server.query("SHOW data_directory")
    backends = psutil.Process(second.pid).children(recursive=True)
    os.kill(second.pid, signal.SIGKILL)
    for process in backends:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    second.wait(10)
    # Its process id now belongs to another process of the same user.
    pid_file = Path(str(data)) / "postmaster.pid"
    _, *lines = pid_file.read_text().splitlines()
    with subprocess.Popen(["sleep", "60"], user=pid_file.stat().st_uid) as it:
        pid_file.write_text("\n".join([str(it.pid), *lines]) + "\n")
        server.start()
        assert server.query("SELECT n FROM kept") == [(7,)]
        assert it.poll() is None
        it.kill()
