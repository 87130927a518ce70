"""`make test`: pytest, with the servers that the tests need."""

import contextlib
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from deploy.local import packages
from deploy.local.halves import Halves, loads
from deploy.local.output import Output, to_terminal
from deploy.local.packages import Package
from deploy.local.postgres import Postgres
from deploy.local.processes import MARK, LocalError, Service
from deploy.local.rabbitmq import RabbitMQ
from deploy.local.services import ROOT
from deploy.local.supervisor import Stopping, Supervisor


def run(args: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run pytest with `args`; return its exit status."""
    output = to_terminal(as_json=False)
    missing = packages.provide(output, environ)
    with_broker = packages.RABBITMQ not in missing
    lacking = [package for package in missing if package.required]
    if lacking and environ.get("REQUIRE_RABBITMQ") == "1":
        raise LocalError(_demand(lacking))
    with tempfile.TemporaryDirectory(prefix="timer-tests-") as name:
        directory = Path(name).resolve()
        env = {**environ, "DATA_DIR": str(directory)}
        # Hundreds of processes would each compile what they import.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
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
        env["RABBITMQ_URL"] = rabbitmq.url
        env["RABBITMQ_MANAGEMENT_URL"] = rabbitmq.management_url
    if postgres:
        env["DATABASE_URL"] = postgres.url
    status = int(signal.SIGTERM) + 128
    # The supervisor prints nothing, so that pytest's line is the last.
    with (
        open(os.devnull, "wb") as nowhere,
        contextlib.suppress(Stopping),
        Supervisor(Output(nowhere, as_json=False)) as supervisor,
    ):
        if postgres or rabbitmq:
            collection = _collection(directory, env, args)
            _start_servers(supervisor, collection, postgres, rabbitmq, args)
        to_install = None
        if not with_broker:
            env["RABBITMQ_URL"] = ""
            to_install = packages.RABBITMQ.install()
        with tempfile.TemporaryDirectory(prefix="timer-notes-") as notes:
            halves = Halves(supervisor, env, args, Path(notes))
            status = halves.run(to_install)
    return status


def _collection(
    directory: Path, env: Mapping[str, str], args: Sequence[str]
) -> Service:
    """Return a run of pytest that compiles what the tests import.

    Otherwise all workers of pytest-xdist would do so at the same time.
    """
    return Service(
        name="collection",
        command=[
            sys.executable, "-m", "pytest", *args, "--collect-only", "-qq"
        ],
        env=dict(env),
        log=directory / "collection.log",
        directory=ROOT,
        once=True,
    )


def _start_servers(
    supervisor: Supervisor,
    collection: Service,
    postgres: Postgres | None,
    rabbitmq: RabbitMQ | None,
    args: Sequence[str],
) -> None:
    """Start our servers, collect meanwhile, and wait for all of them."""
    if postgres:
        server = postgres.service()
        if not _measures(args):
            # No test cuts the power, and every test commits.
            command = [*server.command, "--fsync=off"]
            server = replace(server, command=command)
        supervisor.start(server)
    if rabbitmq:
        for service in rabbitmq.services():
            supervisor.start(service)
    collecting = supervisor.start(collection)
    if rabbitmq:
        supervisor.wait_for(rabbitmq.is_ready, 120, "RabbitMQ")
    if postgres:
        supervisor.wait_for(postgres.is_ready, 120, "PostgreSQL")
    supervisor.wait_for(collecting.has_ended, 120, "pytest's collection")


def _measures(args: Sequence[str]) -> bool:
    """Tell whether `args` allow tests that measure, commits included.

    The last `-m` counts, as in pytest.
    """
    chosen = [value for flag, value in pairwise(args) if flag == "-m"]
    return loads(chosen[-1] if chosen else "")


def _demand(lacking: Sequence[Package]) -> str:
    lines = ["REQUIRE_RABBITMQ=1, and what the tests need is missing:"]
    lines += [f"  {each.name}; to install it: {each.install()}"
              for each in lacking]
    if packages.RABBITMQ in lacking:
        lines.append("For RabbitMQ, RABBITMQ_URL may be set instead.")
    return "\n".join(lines)
