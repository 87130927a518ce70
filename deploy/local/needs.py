"""What a machine needs beyond Python, and the commands that install it.

It imports only the standard library, and modules that do the same: ``make``
runs it before there is an environment.
"""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

# Debian's and RabbitMQ's own packages put a wrapper on the PATH, which refuses
# every user except root and rabbitmq. The script behind it does not.
RABBITMQ_SERVERS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
)
APT_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")
# The first has no windows, and takes less CPU.
CHROMIUMS = (
    "chromium-headless-shell", "chromium", "chromium-browser",
    "google-chrome", "google-chrome-stable", "chrome",
)
CHROME_ON_MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
)


def rabbitmq_server() -> Path | None:
    """Return the script that starts RabbitMQ, None if it isn't installed."""
    for name in RABBITMQ_SERVERS:
        if os.access(name, os.X_OK):
            return Path(name)
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


def program(*names: str) -> str | None:
    """Return the first of these programs that is installed.

    Debian has servers in /usr/sbin, which is on root's PATH only.
    """
    path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    return None


def pgbouncer() -> str | None:
    """Return PgBouncer's program, which tests run."""
    return program("pgbouncer")


def nginx() -> str | None:
    """Return nginx's program, which tests run."""
    return program("nginx")


def chromium() -> str | None:
    """Return the browser that tests drive."""
    return program(*CHROMIUMS, CHROME_ON_MACOS)


def promtool() -> str | None:
    """Return the program that tests Prometheus's rules."""
    return program("promtool")


def install_command(debian: str, brew: str, elsewhere: str) -> str:
    """Return the command that installs a package on this machine."""
    if platform.system() == "Darwin":
        return f"brew install {brew}"
    if shutil.which("apt-get"):
        sudo = "" if os.geteuid() == 0 else "sudo "
        return sudo + " ".join((*APT_INSTALL, debian))
    return elsewhere


def install_rabbitmq() -> str:
    """Return the command that installs RabbitMQ on this machine."""
    return install_command(
        "rabbitmq-server", "rabbitmq",
        "see https://www.rabbitmq.com/docs/download",
    )


def install_pgbouncer() -> str:
    """Return the command that installs PgBouncer on this machine."""
    return install_command(
        "pgbouncer", "pgbouncer", "see https://www.pgbouncer.org/install.html"
    )


def install_nginx() -> str:
    """Return the command that installs nginx on this machine."""
    return install_command(
        "nginx-light", "nginx", "see https://nginx.org/en/docs/install.html"
    )


def missing(shape: str, environ: Mapping[str, str]) -> str | None:
    """Say what `shape` lacks here, and the remedy; None if nothing."""
    if shape != "stack" or environ.get("RABBITMQ_URL") or rabbitmq_server():
        return None
    return (
        "`make stack` needs RabbitMQ. To install it:\n"
        f"  {install_rabbitmq()}\n"
        "or set RABBITMQ_URL; `make run` needs none."
    )


if __name__ == "__main__":
    lack = missing(sys.argv[1], os.environ)
    if lack:
        sys.exit(f"timer-service: {lack}")
