"""What `make run` and `make stack` run, and with which settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from apps.webhooks.signing import new_secret
from deploy import commands
from deploy.local.data import kept_port, secret
from deploy.local.processes import MARK, LocalError, Service

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
LOOPBACK = "127.0.0.0/8,::1/128"


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that decide what is run; the rest is the application's."""

    shape: str      # "run" or "stack"
    port: int
    data_dir: Path
    web_workers: int
    worker_processes: int
    worker_threads: int
    secret_file: Path | None    # the webhooks'; None if WEBHOOK_SECRET is set

    @classmethod
    def read(cls, shape: str, environ: Mapping[str, str]) -> "Options":
        """Read the environment; LocalError names the variable that's wrong."""
        many = 2 if shape == "stack" else 1
        directory = data_dir(environ)
        given = environ.get("WEBHOOK_SECRET", "").strip()
        return cls(
            shape=shape,
            port=_number(environ, "PORT", 8000, 65535),
            data_dir=directory,
            web_workers=_number(environ, "WEB_WORKERS", many, 256),
            worker_processes=_number(environ, "WORKER_PROCESSES", many, 256),
            worker_threads=_number(environ, "WORKER_THREADS", 64, 1024),
            secret_file=None if given else directory / "webhook-secret",
        )


def data_dir(environ: Mapping[str, str]) -> Path:
    """Return the data directory, absolute."""
    return Path(environ.get("DATA_DIR") or ROOT / ".data").resolve()


def environment(
    options: Options,
    environ: Mapping[str, str],
    database_url: str,
    rabbitmq_url: str,
) -> dict[str, str]:
    """Return the environment of every process of the application."""
    env = {
        **environ,
        MARK: str(options.data_dir),
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "DATA_DIR": str(options.data_dir),
        "API_ADDRESS": HOST,
        "WORKER_PROCESSES": str(options.worker_processes),
        "WORKER_THREADS": str(options.worker_threads),
        **commands.ENVIRONMENT,
    }
    env.setdefault("WEBHOOK_ALLOWED_NETWORKS", LOOPBACK)
    env.setdefault("INBOX", address(options))
    if "INBOX_RESET_PORT" not in env:
        port = kept_port(options.data_dir / "inbox-reset-port")
        env["INBOX_RESET_PORT"] = str(port)
    if not env.get("SECRET_KEY"):
        env["SECRET_KEY"] = secret(options.data_dir / "secret-key")
    if options.secret_file:
        env["WEBHOOK_SECRET"] = secret(options.secret_file, new_secret)
    return env


def address(options: Options) -> str:
    """Return the URL of the service."""
    return f"http://{HOST}:{options.port}"


def migration(env: Mapping[str, str]) -> Service:
    """Return the migration, which ends before all else starts."""
    return Service("migrate", commands.MIGRATE, env, directory=ROOT)


def application(options: Options, env: Mapping[str, str]) -> list[Service]:
    """Return the processes to keep running, in the order of their start.

    They are stopped in the opposite order. Recovery runs beside them and ends
    by itself: creating and firing do not wait for a backlog.
    """
    worker = commands.worker(options.worker_processes, options.worker_threads)
    web = commands.web(HOST, options.port, options.web_workers)
    envs = {"dispatcher": _with_next_port(env)}
    found = {"worker": worker, "dispatcher": commands.DISPATCHER, "web": web}
    if options.shape == "run":
        del found["dispatcher"]
    recovery = Service(
        "recover", commands.RECOVER, env, directory=ROOT, once=True
    )
    return [
        *(
            Service(name, command, envs.get(name, env), directory=ROOT)
            for name, command in found.items()
        ),
        recovery,
    ]


def _with_next_port(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the port after the worker's METRICS_PORT.

    A wrong port stays as it is: the process says so.
    """
    port = env.get("METRICS_PORT", "").strip()
    if not port.isdecimal() or int(port) == 0:
        return dict(env)
    return {**env, "METRICS_PORT": str(int(port) + 1)}


def _number(
    environ: Mapping[str, str], name: str, usual: int, most: int
) -> int:
    try:
        return commands.number(environ, name, usual, most)
    except ValueError as error:
        raise LocalError(str(error)) from error


def welcome(options: Options, management: str | None) -> str:
    """Return what to show once the service answers."""
    here = address(options)
    signed_with = options.secret_file or "WEBHOOK_SECRET"
    lines = [
        "",
        f"  The timer service answers on {here}",
        "",
        "  See a timer fire: open this page, and press “Set a timer”:",
        f"    {here}/inbox/hello",
        "  or set one of five seconds with curl; its call comes there:",
        f"    curl {here}/timer -H 'content-type: application/json' \\",
        '      -d \'{"hours": 0, "minutes": 0, "seconds": 5,'
        f' "url": "{here}/inbox/hello"}}\'',
        "",
        f"  API documentation: {here}/api/docs",
        *([management] if management else []),
        f"  Webhooks are signed with the secret in {signed_with}",
        f"  Data: {options.data_dir}",
        "  Ctrl-C drains and stops it.",
        "",
    ]
    return os.linesep.join(lines)
