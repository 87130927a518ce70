"""The commands of the service's processes, under `make` and in containers.

`make` starts them under its supervisor. In a container the command replaces
this program, so that it gets the container's signals:

usage: python -m deploy.commands migrate|web|worker|dispatcher
"""

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import NoReturn

from config.front import THREADS

#: Connections that a web process takes at once, if it may have as many files.
CONNECTIONS = 4096
#: Files that it needs besides.
_FILES = 256
#: What each command needs in its environment.
ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    # Milliseconds until a Dramatiq consumer connects again.
    "dramatiq_restart_delay": "500",
}
MIGRATE = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
# They also run without this option, but take longer to start.
_QUICKLY = ["--settings", "config.background"]
RECOVER = [sys.executable, "manage.py", "recover_timers", *_QUICKLY]
DISPATCHER = [sys.executable, "manage.py", "dispatch_timers", *_QUICKLY]


def web(host: str, port: int, workers: int) -> list[str]:
    """Return the command of a web server with `workers` processes."""
    return [
        sys.executable, "-m", "config.web", "--interface", "wsgi",
        "--host", host, "--port", str(port),
        "--http", "1", "--no-ws", "--log-level", "error",
        "--workers", str(workers),
        # One for each request whose body is read: config/front.py
        "--blocking-threads", str(THREADS),
        # Connections at once for each worker: idle ones count as well.
        "--backpressure", str(_connections()),
        # Milliseconds for a request's head, and until the next one begins
        "--http1-header-read-timeout", "30000",
        "--respawn-failed-workers", "--respawn-interval", "0.5",
        "--workers-kill-timeout", "15",
        "config.wsgi:application",
    ]


def _connections() -> int:
    """Return how many connections a web process can have.

    Without a file for a new connection Granian would try to accept it for
    ever. Each process raises its own limit: config/wsgi.py.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return CONNECTIONS
    return max(min(CONNECTIONS, most - _FILES), 1)


def worker(processes: int, threads: int) -> list[str]:
    """Return the command of a worker: processes, and threads in each."""
    return [
        sys.executable, "-m", "dramatiq", "config.worker", "--skip-logging",
        "--processes", str(processes), "--threads", str(threads),
        # Milliseconds. Calls in flight end within their own 10 s.
        "--worker-shutdown-timeout", "20000",
    ]


def number(
    environ: Mapping[str, str], name: str, usual: int, most: int
) -> int:
    """Return a variable as a number; ValueError says which one is wrong."""
    text = environ.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ValueError(f"{name} must be a number from 1 to {most}: {text}")
    return int(text)


def every_address() -> str:
    """Return the wildcard address: IPv6's if the machine has it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        # Granian does not change this option.
        only = probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        probe.bind(("::", 0))
        if not only:
            return "::"
    return "0.0.0.0"


def in_container(name: str, environ: Mapping[str, str]) -> list[list[str]]:
    """Return a container's commands, in their order; KeyError if none."""
    return {
        "migrate": [MIGRATE, RECOVER],
        "web": [
            web(
                every_address(),
                number(environ, "PORT", 8000, 65535),
                number(environ, "WEB_WORKERS", 2, 256),
            )
        ],
        "worker": [
            worker(
                number(environ, "WORKER_PROCESSES", 2, 256),
                number(environ, "WORKER_THREADS", 64, 1024),
            )
        ],
        "dispatcher": [DISPATCHER],
    }[name]


def main(args: list[str]) -> NoReturn:
    """Run the commands in turn; become the last one if the others succeed."""
    try:
        *before, last = in_container(args[0], os.environ)
    except (IndexError, KeyError):
        sys.exit(__doc__)
    except ValueError as error:
        sys.exit(str(error))
    environ = {**os.environ, **ENVIRONMENT}
    for command in before:
        done = subprocess.run(command, env=environ, check=False)
        if done.returncode:
            sys.exit(done.returncode)
    os.execve(last[0], last, environ)


if __name__ == "__main__":
    main(sys.argv[1:])
