"""What the processes listen on, and how systemd runs them."""

import resource
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from config import front
from deploy import commands, receiver

ROOT = Path(__file__).resolve().parents[3]
UNITS = ROOT / "docs" / "systemd"


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def has_ipv6() -> bool:
    """Return whether a socket could listen on IPv6 and IPv4 at once."""
    try:
        with socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
        ):
            return True
    except (OSError, ValueError):
        return False


def test_a_container_listens_on_every_address() -> None:
    (web,) = commands.in_container("web", {})

    assert option(web, "--host") == ("::" if has_ipv6() else "0.0.0.0")
    assert option(web, "--port") == "8000"


def test_without_ipv6_it_listens_on_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "AF_INET6", 12345)  # the kernel knows it not

    assert commands.every_address() == "0.0.0.0"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_receiver_takes_both_kinds_of_addresses(host: str) -> None:
    server = receiver.Server(("", 0), receiver.Receiver)
    with server:
        try:
            socket.create_connection((host, server.server_port), 5).close()
        except OSError:
            if host == "127.0.0.1":
                raise
            pytest.skip("this machine has no ::1")


def test_threads_are_left_for_the_probes() -> None:
    (web,) = commands.in_container("web", {})

    threads = int(option(web, "--blocking-threads"))

    assert front.AT_ONCE < front.PLACES < threads


def test_a_process_has_files_for_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1024))

    command = commands.web("127.0.0.1", 8000, 1)

    assert int(option(command, "--backpressure")) < 1024


@pytest.mark.parametrize("path", sorted(UNITS.iterdir()), ids=lambda p: p.name)
def test_a_unit_says_term_once_and_waits(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert "KillMode=mixed" in lines
    (stop,) = (x for x in lines if x.startswith("TimeoutStopSec="))
    # Calls under way take 20 s, in a worker
    assert int(stop.partition("=")[2]) >= 30
    (start,) = (x for x in lines if x.startswith("ExecStart="))
    name = start.split()[-1]
    assert commands.in_container(name, {})


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not here")
    for unit in UNITS.iterdir():
        # It looks for the user and for the command.
        text = unit.read_text().replace("User=timer\n", "")
        text = text.replace("/opt/timer-service/.venv/bin/python", "/bin/sh")
        (tmp_path / unit.name.replace("@", "@8000")).write_text(
            text.replace("/opt/timer-service", "/")
        )

    done = subprocess.run(
        [analyze, "verify", *map(str, tmp_path.iterdir())],
        capture_output=True, text=True, timeout=60, check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
