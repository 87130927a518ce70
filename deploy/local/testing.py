"""`make test`: pytest, with the servers that the tests need."""

import contextlib
import os
import secrets
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local import packages
from deploy.local.halves import Halves
from deploy.local.output import Output, to_terminal
from deploy.local.packages import Package
from deploy.local.postgres import Postgres
from deploy.local.processes import MARK, LocalError
from deploy.local.rabbitmq import RabbitMQ
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
            to_install = packages.RABBITMQ.install()
        with tempfile.TemporaryDirectory(prefix="timer-notes-") as notes:
            halves = Halves(supervisor, env, args, Path(notes))
            status = halves.run(to_install)
    return status


def _demand(lacking: Sequence[Package]) -> str:
    lines = ["REQUIRE_RABBITMQ=1, and what the tests need is missing:"]
    lines += [f"  {each.name}; to install it: {each.install()}"
              for each in lacking]
    if packages.RABBITMQ in lacking:
        lines.append("For RabbitMQ, RABBITMQ_URL may be set instead.")
    return "\n".join(lines)
