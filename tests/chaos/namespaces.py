"""Servers as network namespaces, with links that can be cut one by one.

A hub has Postgres, RabbitMQ, the receiver and the clients; each of them
has an address of its own there, and each server a link of its own to each
of those addresses:

    server a ── postgres ──┐
             ── rabbitmq ──┼── hub
             ── clients  ──┘

A link that is cut loses every packet, in both directions, and tells nobody:
its ends send to a hardware address that none of them has. (Taking a link
down would have its ends told "no route to host".)

Linux, root and iproute2 only. See ip-netns(8), ip-neighbour(8), setns(2).
"""

import ctypes
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HUB = "hub"
#: The links that each server has, and where the hub is at their other end.
ADDRESSES = {
    "postgres": "10.77.0.1",
    "rabbitmq": "10.77.0.2",
    "clients": "10.77.0.3",
}
#: All of them are in here, and the servers as well.
NETWORK = "10.77.0.0/16"

_DIRECTORY = Path("/run/netns")
_PREFIX = "timer-chaos"
#: Of nobody; locally administered.
_NOBODY = "02:00:00:00:00:00"
_CLONE_NEWNET = 0x40000000

Link = tuple[str, str]


def missing() -> str:
    """Say what keeps this machine from it, and the remedy; "" if nothing."""
    if platform.system() != "Linux":
        return "network namespaces are Linux's; in a Linux machine: make chaos"
    if os.geteuid() != 0:
        return "network namespaces are root's to make: sudo make chaos"
    if not shutil.which("ip"):
        return "`ip` is missing: apt-get install iproute2"
    name = f"{_PREFIX}-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
    except RuntimeError as error:
        return f"{error}; in Docker: docker run --privileged"
    _remove(name)
    return ""


class Network:
    """A hub and servers, made anew; `close` removes them."""

    def __init__(self, *servers: str) -> None:
        _remove_leftovers()
        self._numbers = {
            (server, link): number
            for number, (server, link) in enumerate(
                ((server, link) for server in servers for link in ADDRESSES),
                start=1,
            )
        }
        try:
            for name in (HUB, *servers):
                _ip("netns", "add", _full(name))
                _ip_in(name, ["link set lo up"])
            for address in ADDRESSES.values():
                _ip_in(HUB, [f"addr add {address}/32 dev lo"])
            for server, link in self._numbers:
                self._connect(server, link)
        except BaseException:
            self.close()
            raise

    def _connect(self, server: str, link: str) -> None:
        near, far = self._ends(server, link)
        _ip_in(HUB, [
            f"link add {server}-{link} type veth peer name {link}"
            f" netns {_full(server)}",
            f"addr add {near}/30 dev {server}-{link}",
            f"link set {server}-{link} up",
        ])
        _ip_in(server, [
            f"addr add {far}/30 dev {link}",
            f"link set {link} up",
            f"route add {ADDRESSES[link]}/32 via {near} dev {link}",
        ])

    def _ends(self, server: str, link: str) -> tuple[str, str]:
        """Return a link's addresses: the hub's and the server's."""
        number = self._numbers[server, link]
        return f"10.77.{number}.1", f"10.77.{number}.2"

    def address(self, server: str) -> str:
        """Return the address at which clients reach a server."""
        return self._ends(server, "clients")[1]

    @contextmanager
    def cut(self, *links: Link) -> Iterator[None]:
        """Lose what is sent on these links of a server's, until the end."""
        self._at_ends(links, f"replace {{to}} lladdr {_NOBODY} dev {{dev}}")
        try:
            yield
        finally:
            self._at_ends(links, "del {to} dev {dev}")

    def _at_ends(self, links: Sequence[Link], command: str) -> None:
        commands: dict[str, list[str]] = {}
        for server, link in links:
            near, far = self._ends(server, link)
            for name, to, device in (
                (HUB, far, f"{server}-{link}"), (server, near, link)
            ):
                line = f"neigh {command.format(to=to, dev=device)}"
                commands.setdefault(name, []).append(line)
        for name, lines in commands.items():
            _ip_in(name, lines)

    def enter(self, name: str) -> None:
        """Have the current thread live in the hub or in a server."""
        with (_DIRECTORY / _full(name)).open() as namespace:
            _enter(namespace.fileno())

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Have this thread live there for a while.

        Its sockets, and the processes that it starts, stay there.
        """
        with open("/proc/thread-self/ns/net") as home:
            self.enter(name)
            try:
                yield
            finally:
                _enter(home.fileno())

    def close(self) -> None:
        """Remove all of it; what still runs in there is killed."""
        for path in _DIRECTORY.glob(f"{_full('*')}"):
            _remove(path.name)


def _full(name: str) -> str:
    return f"{_PREFIX}-{os.getpid()}-{name}"


def _ip(*arguments: str, lines: Sequence[str] = ()) -> str:
    done = subprocess.run(
        ["ip", *arguments],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"ip {' '.join(arguments)}: {done.stderr.strip()}"
        )
    return done.stdout


def _ip_in(name: str, lines: Sequence[str]) -> None:
    _ip("-netns", _full(name), "-batch", "-", lines=lines)


def _enter(namespace: int) -> None:
    # os.setns() came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _remove(name: str) -> None:
    for pid in map(int, _ip("netns", "pids", name).split()):
        if pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    _ip("netns", "del", name)


def _remove_leftovers() -> None:
    """Remove what a run that was killed has left."""
    for path in _DIRECTORY.glob(f"{_PREFIX}-*"):
        if not Path("/proc", path.name.split("-")[2]).exists():
            _remove(path.name)
