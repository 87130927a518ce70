"""`make run` as a user meets it: the whole service, killed and started."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.smoke.client import Api
from tests.support.ports import free_port
from tests.support.receiver import Receiver

ROOT = Path(__file__).resolve().parents[3]
WaitUntil = Callable[[Callable[[], object], float], None]
AllGone = Callable[[list[psutil.Process], float], None]


class Service:
    """The service on a port and a data directory of its own."""

    def __init__(
        self, directory: Path, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        self.directory = directory
        self.log = directory / "output"
        self._processes = processes
        self.port = free_port()

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        env = {
            key: value for key, value in os.environ.items()
            if key not in {"DATABASE_URL", "RABBITMQ_URL", "MAKELEVEL"}
        }
        env |= {"PORT": str(self.port), "DATA_DIR": str(self.directory)}
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "run"],
                cwd=ROOT, env=env | environ, stdout=log, stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def is_ready(self) -> bool:
        assert self._processes[-1].poll() is None, self.log.read_text()
        return b"/api/docs" in self.log.read_bytes()

    def set_timer(self, seconds: int, url: str) -> str:
        return Api(self.port).set_timer(seconds, url)


@pytest.fixture
def service(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> Iterator[Service]:
    yield Service(tmp_path, processes)
    home = tmp_path / "postgres"
    if home.is_symlink():
        shutil.rmtree(home.resolve(), ignore_errors=True)


def manage(service: Service, *args: str) -> str:
    """Run a management command for a service; return what it printed."""
    env = {key: value for key, value in os.environ.items()
           if key not in {"DATABASE_URL", "RABBITMQ_URL"}}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.local", "manage", *args],
        cwd="/", env={**env, "DATA_DIR": str(service.directory),
                      "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )
    return done.stdout or done.stderr


def test_a_port_in_use_is_named_before_anything_starts(
    service: Service,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", service.port))
        taken.listen()
        assert service.start().wait(20) == 1
    assert f"PORT {service.port} " in service.log.read_text()
    assert not (service.directory / "lock").exists()


def test_timers_outlive_a_power_cut(
    service: Service, receiver: Receiver,
    processes: list[subprocess.Popen[bytes]],
    wait_until: WaitUntil, all_gone: AllGone,
) -> None:
    first = service.start()
    wait_until(service.is_ready, 60)
    file = service.directory / "webhook-secret"
    secret, said = file.read_text(), service.log.read_text()
    assert str(file) in said
    assert secret.strip() not in said
    assert json.loads(manage(service, "api_keys", "list", "--json")) == []

    # One data directory serves one at a time
    with tempfile.TemporaryDirectory() as name:
        other = Service(Path(name), processes)
        again = other.start(DATA_DIR=str(service.directory))
        assert again.wait(20) == 1
        assert f"in use by process {first.pid}" in other.log.read_text()

    # When timers come due while all of it is without power
    created = [service.set_timer(2, receiver.url()) for _ in range(10)]
    tree = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    all_gone(tree, 10)
    due = time.monotonic() + 2
    wait_until(lambda: time.monotonic() > due, 5)
    assert not receiver.calls

    # Then they fire, once, when it starts again, with the same secret
    second = service.start()
    wait_until(service.is_ready, 60)
    wait_until(lambda: len(receiver.calls) >= 10, 10)
    assert receiver.counts() == dict.fromkeys(created, 1)
    assert file.read_text() == secret

    # And a TERM ends every process
    tree = psutil.Process(second.pid).children(recursive=True)
    second.terminate()
    assert second.wait(30) == 0
    all_gone(tree, 5)
    assert receiver.counts() == dict.fromkeys(created, 1)

    # Nothing runs any more, so there is nothing to manage
    assert "no service runs on the data" in manage(service, "accounts", "list")
