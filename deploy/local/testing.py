"""`make test`: pytest, with the servers that the tests need."""

import contextlib
import os
import platform
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deploy.local.halves import Halves
from deploy.local.needs import (
    APT_INSTALL,
    install_rabbitmq,
    rabbitmq_server,
)
from deploy.local.output import Output, to_terminal
from deploy.local.postgres import Postgres
from deploy.local.processes import MARK, LocalError
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.supervisor import Stopping, Supervisor

POLICY = Path("/usr/sbin/policy-rc.d")
NOT_AT_BOOT = ("update-rc.d", "rabbitmq-server", "disable")


def run(args: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run pytest with `args`; return its exit status."""
    output = to_terminal(as_json=False)
    with_broker = _get_rabbitmq(output, environ)
    if not with_broker and environ.get("REQUIRE_RABBITMQ") == "1":
        raise LocalError(
            "REQUIRE_RABBITMQ=1, and there is no RabbitMQ: set RABBITMQ_URL, "
            f"or install it:\n  {install_rabbitmq()}"
        )
    with tempfile.TemporaryDirectory(prefix="timer-tests-") as name:
        directory = Path(name).resolve()
        env = {**environ, "DATA_DIR": str(directory)}
        env.setdefault("SECRET_KEY", secrets.token_urlsafe(48))
        postgres = None
        if not environ.get("DATABASE_URL"):
            marked = {**environ, MARK: str(directory)}
            postgres = Postgres(directory, marked)
        try:
            return _run(directory, env, postgres, args, with_broker)
        finally:
            if postgres:
                postgres.remove()


def _run(
    directory: Path,
    env: dict[str, str],
    postgres: Postgres | None,
    args: Sequence[str],
    with_broker: bool,
) -> int:
    rabbitmq = None
    if with_broker and not env.get("RABBITMQ_URL"):
        rabbitmq = RabbitMQ(directory, {**env, MARK: str(directory)})
    status = int(signal.SIGTERM) + 128
    # pytest has the last word.
    with (
        open(os.devnull, "wb") as nowhere,
        contextlib.suppress(Stopping),
        Supervisor(Output(nowhere, as_json=False)) as supervisor,
    ):
        if postgres:
            supervisor.start(postgres.service())
            env["DATABASE_URL"] = postgres.url
        if rabbitmq:
            for service in rabbitmq.services():
                supervisor.start(service)
            env["RABBITMQ_URL"] = rabbitmq.url
            env["RABBITMQ_MANAGEMENT_URL"] = rabbitmq.management_url
            supervisor.wait_for(rabbitmq.is_ready, 120, "RabbitMQ")
        if postgres:
            supervisor.wait_for(postgres.is_ready, 120, "PostgreSQL")
        to_install = None
        if not with_broker:
            env["RABBITMQ_URL"] = ""
            to_install = install_rabbitmq()
        with tempfile.TemporaryDirectory(prefix="timer-notes-") as notes:
            halves = Halves(supervisor, env, args, Path(notes))
            status = halves.run(to_install)
    return status


def _get_rabbitmq(output: Output, environ: Mapping[str, str]) -> bool:
    """Tell whether there is a RabbitMQ; root on Debian installs it."""
    if environ.get("RABBITMQ_URL") or rabbitmq_server():
        return True
    is_debian = platform.system() == "Linux" and shutil.which("apt-get")
    if os.geteuid() != 0 or not is_debian:
        return False
    output.say(f"RabbitMQ is missing; installing it: {install_rabbitmq()}")
    env = {**environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        for command in (["apt-get", "update"], APT_INSTALL):
            done = subprocess.run(
                command, env=env, stdout=subprocess.DEVNULL, check=False
            )
            if done.returncode != 0:
                output.say(f"{' '.join(command)} failed")
    subprocess.run(NOT_AT_BOOT, stdout=subprocess.DEVNULL, check=False)
    return rabbitmq_server() is not None


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting services while they are installed.

    invoke-rc.d(8): 101 from /usr/sbin/policy-rc.d forbids what it asks for.
    """
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
