"""The commands that containers run."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import commands

ROOT = Path(__file__).resolve().parents[3]
STOP_GRACE = 30_000  # milliseconds; stop_grace_period in docker-compose.yml


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_sizes_come_from_the_environment() -> None:
    environ = {
        "WEB_WORKERS": "3", "WORKER_PROCESSES": "4", "WORKER_THREADS": "5",
    }

    (web,) = commands.in_container("web", environ)
    (worker,) = commands.in_container("worker", environ)

    assert option(web, "--workers") == "3"
    assert option(worker, "--processes") == "4"
    assert option(worker, "--threads") == "5"


def test_unset_or_empty_sizes_have_defaults() -> None:
    (worker,) = commands.in_container("worker", {"WORKER_PROCESSES": ""})

    assert option(worker, "--processes") == "2"
    assert option(worker, "--threads") == "64"


@pytest.mark.parametrize("text", ["0", "-1", "257", "two", "1.5", "²"])
def test_a_wrong_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="WEB_WORKERS must be a number"):
        commands.in_container("web", {"WEB_WORKERS": text})


def test_calls_in_flight_end_before_docker_kills_the_worker() -> None:
    (worker,) = commands.in_container("worker", {})

    timeout = int(option(worker, "--worker-shutdown-timeout"))

    assert 10_000 < timeout < STOP_GRACE - 5_000


def test_migrations_come_before_recovery() -> None:
    first, second = commands.in_container("migrate", {})

    assert "migrate" in first
    assert "recover_timers" in second


@pytest.mark.parametrize("args", [[], ["nothing"]])
def test_an_unknown_command_gets_the_usage(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.commands", *args],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )

    assert done.returncode == 1
    assert "usage: python -m deploy.commands" in done.stderr


def test_nothing_follows_a_migration_that_fails() -> None:
    environ = {"DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}

    done = subprocess.run(
        [sys.executable, "-m", "deploy.commands", "migrate"],
        cwd=ROOT, env=environ, capture_output=True, text=True,
        timeout=60, check=False,
    )

    assert done.returncode == 1
    assert "connection" in done.stderr
    # what recover_timers would say
    assert "Postgres can't be reached" not in done.stderr
