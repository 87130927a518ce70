"""What a machine needs beyond Python, and the commands that install it.

Standard library only, and no third-party import behind it: ``make`` asks
before there is an environment.
"""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

# Debian's and RabbitMQ's own packages put a wrapper on the PATH that refuses
# every user but root and rabbitmq; the script behind it does not.
RABBITMQ_SERVERS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
)
APT_INSTALL = (
    "apt-get", "install", "--yes", "--no-install-recommends",
    "rabbitmq-server",
)


def rabbitmq_server() -> Path | None:
    """Return the script that starts RabbitMQ, None if it isn't installed."""
    for name in RABBITMQ_SERVERS:
        if os.access(name, os.X_OK):
            return Path(name)
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


def install_rabbitmq() -> str:
    """Return the command that installs RabbitMQ on this machine."""
    if platform.system() == "Darwin":
        return "brew install rabbitmq"
    if shutil.which("apt-get"):
        sudo = "" if os.geteuid() == 0 else "sudo "
        return sudo + " ".join(APT_INSTALL)
    return "see https://www.rabbitmq.com/docs/download"


def missing(shape: str, environ: Mapping[str, str]) -> str | None:
    """Say what `shape` lacks here, and the remedy; None when all is there."""
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
