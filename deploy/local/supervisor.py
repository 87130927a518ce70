"""Starts services in order, keeps them running, stops them in order."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Self

from deploy.local.output import Output
from deploy.local.processes import (
    APPLICATION,
    Child,
    LocalError,
    Service,
    Tether,
)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds until a service that ended starts again. The delay is doubled each
# time, up to LONGEST_DELAY. It is FIRST_DELAY again once the service ran for
# STEADY.
FIRST_DELAY, LONGEST_DELAY, STEADY = 0.5, 10.0, 30.0


class Stopping(BaseException):
    """We were told to stop."""


class Supervisor:
    """Runs services as children; leaving its context stops them all.

    Only the forwarding of output has threads of its own. Every wait raises
    `Stopping` once a stop signal has come, or once the `make` that started us
    is gone.
    """

    def __init__(self, output: Output, kept: Sequence[int] = ()) -> None:
        self._output = output
        self._kept = kept
        self._children: dict[str, Child] = {}
        self._order: list[str] = []
        self._delays: dict[str, float] = {}
        self._due: dict[str, tuple[float, Service]] = {}
        self.stop_signal: int | None = None
        self._parent = os.getppid() if os.environ.get("MAKELEVEL") else None

    def __enter__(self) -> Self:
        self._waking, self._wakeup = os.pipe()
        os.set_blocking(self._waking, False)
        os.set_blocking(self._wakeup, False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        self._tether = Tether(self._kept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_all()
        self._tether.close()

    def start(self, service: Service) -> Child:
        """Start `service`; unless it is run once, it is kept running."""
        child = self._spawn(service)
        self._order.append(service.name)
        return child

    def run(self, service: Service) -> None:
        """Run `service` to its end; LocalError unless it returns 0."""
        child = self._spawn(service)
        while not child.has_ended():
            self.pause(1.0)
        self._forget(child)
        if child.process.returncode != 0:
            raise LocalError(child.outcome())

    def wait_for(
        self, ready: Callable[[], bool], seconds: float, what: str
    ) -> None:
        """Wait until `ready()`; LocalError if a service ends meanwhile."""
        deadline = time.monotonic() + seconds
        while not ready():
            for child in self._ended():
                raise LocalError(child.outcome())
            if time.monotonic() > deadline:
                raise LocalError(f"{what} is not ready after {seconds:.0f} s")
            self.pause(0.1)

    def watch(self) -> None:
        """Start again whatever ends, for ever."""
        while True:
            for child in self._ended():
                self._plan_restart(child)
            self._restart_due()
            wait = min((due for due, _ in self._due.values()), default=1e9)
            self.pause(min(max(wait - time.monotonic(), 0.01), 1.0))

    def _ended(self) -> list[Child]:
        """Return what should not have ended; forget what was run once."""
        ended = [c for c in self._children.values() if c.has_ended()]
        for child in ended:
            if child.service.once:
                self._forget(child)
                if child.process.returncode != 0:
                    self._output.say(child.outcome())
        return [child for child in ended if not child.service.once]

    def pause(self, seconds: float) -> None:
        """Wait, at most until a child ends; raise Stopping if told to stop."""
        if self.stop_signal is None:
            select.select([self._waking], [], [], seconds)
            with contextlib.suppress(BlockingIOError):
                os.read(self._waking, 4096)
        if self._parent and os.getppid() != self._parent:
            self.stop_signal = signal.SIGTERM
        if self.stop_signal is not None:
            raise Stopping
        if not self._tether.is_alive():
            self._tether = Tether(self._kept)
            for child in self._children.values():
                self._tether.hold(child)

    def hold_pid(self, pid: int) -> None:
        """End the single process `pid`, our child, when we are gone."""
        self._tether.hold_pid(pid)

    def release_pid(self, pid: int) -> None:
        """Forget the single process `pid`, which has ended."""
        self._tether.release(pid)

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_signal = self.stop_signal or number

    def _spawn(self, service: Service) -> Child:
        child = Child(service, self._output)
        self._children[service.name] = child
        self._tether.hold(child)
        return child

    def _forget(self, child: Child) -> None:
        child.finish()
        self._tether.release(child.pid)
        del self._children[child.service.name]

    def _plan_restart(self, child: Child) -> None:
        name = child.service.name
        if time.monotonic() - child.started > STEADY:
            self._delays.pop(name, None)
        delay = self._delays.get(name, FIRST_DELAY)
        self._delays[name] = min(2 * delay, LONGEST_DELAY)
        self._due[name] = (time.monotonic() + delay, child.service)
        self._forget(child)
        self._output.say(f"{child.outcome()}; it starts again in {delay:g} s")

    def _restart_due(self) -> None:
        now = time.monotonic()
        for name, (due, service) in list(self._due.items()):
            if due <= now:
                del self._due[name]
                try:
                    self._spawn(service)
                except (LocalError, OSError) as error:
                    self._output.say(f"{name} did not start: {error}")
                    self._due[name] = (now + LONGEST_DELAY, service)

    def _stop_all(self) -> None:
        """Stop applications together, then each server, newest first."""
        once = [name for name in self._children if name not in self._order]
        names = [*once, *reversed(self._order)]
        children = [self._children[n] for n in names if n in self._children]
        if children:
            running = ", ".join(child.service.name for child in children)
            self._output.say(f"stopping {running}")
        together = [c for c in children if c.service.stage == APPLICATION]
        servers = [c for c in children if c.service.stage != APPLICATION]
        for group in [together, *([server] for server in servers)]:
            self._stop_group(group)
        if children:
            self._output.say("stopped")

    def _stop_group(self, group: Sequence[Child]) -> None:
        for child in group:
            child.ask_to_stop()
        start = time.monotonic()
        for child in group:
            left = start + child.service.stop_seconds - time.monotonic()
            if not child.wait(left):
                self._output.say(f"{child.service.name} is killed: too slow")
            self._forget(child)
