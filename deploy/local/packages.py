"""Programs that tests use; root on Debian installs the missing ones."""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import needs
from deploy.local.output import Output

POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package, whether it is there, and how it is installed.

    Without it, tests that need it are skipped. With REQUIRE_RABBITMQ=1 a
    `required` one must be there. Debian starts a `service` at boot, which we
    don't want.
    """

    name: str
    debian: str
    find: Callable[[], object]
    install: Callable[[], str]
    required: bool = True
    service: str | None = None


RABBITMQ = Package(
    "RabbitMQ", "rabbitmq-server", lambda: needs.rabbitmq_server(),
    lambda: needs.install_rabbitmq(), service="rabbitmq-server",
)
OTHERS = (
    Package(
        "PgBouncer", "pgbouncer", lambda: needs.pgbouncer(),
        lambda: needs.install_pgbouncer(), service="pgbouncer",
    ),
    Package(
        "nginx", "nginx-light", lambda: needs.nginx(),
        lambda: needs.install_nginx(), service="nginx",
    ),
    Package(
        "Chromium", "chromium", lambda: needs.chromium(),
        lambda: needs.install_command("chromium", "--cask chromium", ""),
        required=False,
    ),
    Package(
        "promtool", "prometheus", lambda: needs.promtool(),
        lambda: needs.install_command("prometheus", "prometheus", ""),
        required=False, service="prometheus",
    ),
)


def wanted(environ: Mapping[str, str]) -> list[Package]:
    """Return what the tests use; no RabbitMQ if RABBITMQ_URL names one."""
    own = () if environ.get("RABBITMQ_URL") else (RABBITMQ,)
    return [*own, *OTHERS]


def provide(output: Output, environ: Mapping[str, str]) -> list[Package]:
    """Install what is missing; return what is still missing.

    It installs only as root on Debian.
    """
    missing = [each for each in wanted(environ) if not each.find()]
    is_debian = platform.system() == "Linux" and shutil.which("apt-get")
    if missing and os.geteuid() == 0 and is_debian:
        _install(missing, output, environ)
    return [package for package in missing if not package.find()]


def _install(
    packages: list[Package], output: Output, environ: Mapping[str, str]
) -> None:
    env = {**environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        _run(["apt-get", "update"], output, env)
        for package in packages:
            output.say(
                f"{package.name} is missing; installing it:"
                f" {package.install()}"
            )
            _run([*needs.APT_INSTALL, package.debian], output, env)
            if package.service:
                disable = ["update-rc.d", package.service, "disable"]
                _run(disable, output, env)


def _run(
    command: list[str], output: Output, env: Mapping[str, str]
) -> None:
    try:
        done = subprocess.run(
            command, env=env, stdout=subprocess.DEVNULL, check=False
        )
        failed = done.returncode != 0
    except OSError:
        failed = True
    if failed:
        output.say(f"{' '.join(command)} failed")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting services while they are installed.

    invoke-rc.d(8) starts nothing if /usr/sbin/policy-rc.d returns 101.
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
