"""A private RabbitMQ, as the current user, in the foreground, as a child.

It and its `epmd` listen on 127.0.0.1 alone. What it keeps is disposable:
Postgres is the truth.
"""

import base64
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from deploy.local.data import can_bind, free_ports, secret, write_private
from deploy.local.needs import install_rabbitmq, rabbitmq_server
from deploy.local.processes import SERVER, LocalError, Service

USER = "timer"
MANAGEMENT_PORT = 15672     # where people look for the management UI
PLUGINS = "[rabbitmq_management,rabbitmq_prometheus].\n"

# The host's name may change between two starts; this node's does not.
NODE = "timer@localhost"

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {prometheus}
load_definitions = {definitions}
log.file.level = warning
log.file.rotation.size = 10485760
log.file.rotation.count = 3
"""


class RabbitMQ:
    """The broker whose files are in `data_dir`/rabbitmq."""

    def __init__(
        self,
        data_dir: Path,
        env: Mapping[str, str],
        *,
        for_people: bool = False,
    ) -> None:
        """Choose its ports; `for_people` gives its UI the usual one, if free.

        Several brokers that start in the same second would all choose it.
        """
        server = rabbitmq_server()
        if server is None:
            raise LocalError(
                f"RabbitMQ isn't installed. To install it:\n"
                f"  {install_rabbitmq()}"
            )
        self._server = server
        self._home = data_dir / "rabbitmq"
        self._home.mkdir(mode=0o700, exist_ok=True)
        self.password_file = self._home / "password"
        self._password = secret(self.password_file)
        ports = free_ports(5)
        self._amqp, self._node, self._epmd, self._prometheus = ports[:4]
        usual = for_people and can_bind(MANAGEMENT_PORT)
        self.management_port = MANAGEMENT_PORT if usual else ports[4]
        self._booted = self._home / "booted"
        self._env = self._environment(env)

    @property
    def url(self) -> str:
        """Where AMQP clients connect, with the password."""
        return f"amqp://{self._login}@127.0.0.1:{self._amqp}/%2F"

    @property
    def management_url(self) -> str:
        """Where the management API answers, with the password."""
        return f"http://{self._login}@127.0.0.1:{self.management_port}"

    @property
    def _login(self) -> str:
        return f"{USER}:{self._password}"

    def services(self) -> tuple[Service, Service]:
        """Return `epmd`, which knows Erlang nodes' ports, and the broker.

        A node without an `epmd` would start one that outlives it.
        """
        epmd = Service(
            name="epmd",
            command=[_epmd(), "-address", "127.0.0.1"],
            env=self._env,
            stage=SERVER,
            stop_seconds=5.0,
            log=self._home / "epmd.log",
        )
        broker = Service(
            name="rabbitmq",
            command=[str(self._server)],
            env=self._env,
            stage=SERVER,
            # It takes 6 s, of which 5 are the management plugin's. It misses
            # a signal that comes in its first moments.
            stop_seconds=15.0,
            log=self._home / "output.log",
            directory=self._home,
            prepare=self._prepare,
        )
        return epmd, broker

    def is_ready(self) -> bool:
        """Tell whether a client can log in."""
        if can_bind(self._amqp):
            return False
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout = parameters.stack_timeout = 2
        try:
            pika.BlockingConnection(parameters).close()
        except (AMQPError, OSError):
            return False
        self._booted.touch()
        return True

    def _prepare(self) -> None:
        if not self._booted.exists():
            # A first start that is killed leaves half a database, with
            # which RabbitMQ never starts again.
            shutil.rmtree(self._home / "node", ignore_errors=True)
        (self._home / "output.log").unlink(missing_ok=True)
        self._ensure_cookie()
        self._wait_for_epmd()
        (self._home / "conf.d").mkdir(exist_ok=True)
        (self._home / "enabled_plugins").write_text(PLUGINS)
        (self._home / "env.conf").touch()
        definitions = self._home / "definitions.json"
        write_private(definitions, json.dumps(_login_of(self._password)))
        write_private(
            self._home / "rabbitmq.conf",
            CONFIGURATION.format(
                amqp=self._amqp,
                management=self.management_port,
                prometheus=self._prometheus,
                definitions=definitions,
            ),
        )

    def _ensure_cookie(self) -> None:
        """Write Erlang's cookie, the secret that gives control of the node.

        Erlang would make one out of a clock's time, which can be guessed. An
        existing one stays: another node may share it.
        """
        cookie = self._home / ".erlang.cookie"
        secret(cookie, lambda: secrets.token_hex(32))
        cookie.chmod(0o400)

    def _wait_for_epmd(self) -> None:
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            try:
                address = ("127.0.0.1", self._epmd)
                socket.create_connection(address, 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return an environment that knows nothing of the system's broker."""
        home = self._home
        clean = {
            key: value for key, value in env.items()
            if not key.startswith(("RABBITMQ_", "ERL_", "XDG_"))
        }
        return {
            **clean,
            "HOME": str(home),      # of the Erlang cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(self._node),
            "RABBITMQ_CONF_ENV_FILE": str(home / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(home / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "node"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            # Paths are UTF-8 whatever the locale. Schedulers that spin while
            # they wait would cost a core.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+fnu -kernel inet_dist_use_interface {127,0,0,1}"
                " +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }


def _login_of(password: str) -> dict[str, object]:
    """Return definitions with our user, which each start loads anew.

    A killed broker forgets the changes of its last seconds, and it makes its
    own first user only once.
    """
    salt = secrets.token_bytes(4)
    hashed = salt + hashlib.sha256(salt + password.encode()).digest()
    user = {
        "name": USER,
        "password_hash": base64.b64encode(hashed).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "administrator",
    }
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "vhosts": [{"name": "/"}],
        "users": [user],
        "permissions": [{"user": USER, "vhost": "/", **rights}],
    }


def _epmd() -> str:
    """Return the path of `epmd`, which comes with Erlang."""
    if found := shutil.which("epmd"):
        return found
    if erlang := shutil.which("erl"):
        beside = Path(os.path.realpath(erlang)).with_name("epmd")
        if beside.exists():
            return str(beside)
    raise LocalError("RabbitMQ is installed, but its `epmd` is not found")
