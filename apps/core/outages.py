"""Failures that repeat: logged once or once a minute, not each time."""

import logging
import threading
import time
from dataclasses import dataclass

logger = logging.getLogger(__name__)

#: How often a lasting failure is logged again, in seconds.
_AGAIN = 60.0
#: For how long a failure counts as present, in seconds.
_RECENT = 15.0
#: A step that takes longer than this hangs, in seconds.
_HANGS = 7.5
#: How many characters of an error's text are shown, and how many troubles.
_MOST_CHARACTERS = 200
_MOST_TROUBLES = 5


def describe(error: BaseException) -> str:
    """Return an error's type and the first line of its text, cut."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    return text.rstrip(": ")[:_MOST_CHARACTERS]


class Outage:
    """Logs the first of many failures, and the first success after them.

    While a server is away, every thread fails many times a second. With
    `repeats` the latest failure is logged once a minute as well.
    """

    def __init__(
        self, begins: str, ends: str, *, repeats: bool = False
    ) -> None:
        """Take the two sentences to log."""
        self._begins = begins
        self._ends = ends
        self._repeats = repeats
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told = 0.0
        self._ended: float | None = None
        self._failures = 0

    def failed(self, *, count: int = 1, **details: object) -> None:
        """Note failures; the details of the first are logged."""
        with self._lock:
            now = time.monotonic()
            is_first = self._since is None
            if is_first:
                self._since = now
                self._failures = 0
            self._failures += count
            is_told = is_first or (
                self._repeats and now - self._told >= _AGAIN
            )
            if is_told:
                self._told = now
            if is_told and not is_first:
                details["failures"] = self._failures
        if is_told:
            logger.warning(self._begins, extra=details)

    def worked(self) -> None:
        """Note a success."""
        if self._since is None:  # nearly always, so without the lock
            return
        with self._lock:
            since, self._since = self._since, None
            self._ended = now = time.monotonic()
        if since is not None:
            logger.info(
                self._ends,
                extra={
                    "after_s": round(now - since, 1),
                    "failures": self._failures,
                },
            )

    def stalled(self) -> None:
        """Note that an outage has just ended in which nothing failed."""
        with self._lock:
            self._ended = time.monotonic()

    def lasts(self) -> bool:
        """Tell whether it has failed, and has not worked since."""
        return self._since is not None

    def ended_within(self, seconds: float) -> bool:
        """Tell whether it lasts, or ended in the last `seconds` seconds."""
        with self._lock:
            if self._since is not None:
                return True
            ended = self._ended
        return ended is not None and time.monotonic() - ended <= seconds


@dataclass
class _Trouble:
    """A failure; times are on `time.monotonic()`.

    told      when it was logged
    until     when it is no longer present, unless it fails again
    is_open   whether it was logged, and its end was not
    is_over   whether what failed has worked since
    """

    told: float
    until: float
    text: str
    is_open: bool = True
    is_over: bool = False


class Troubles:
    """What keeps failing in this process, each by its name.

    Failures of one name are logged once a minute. Probes ask for everything
    that failed recently and has not worked since, and for what hangs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: tuple[str, float] | None = None
        self._known: dict[str, _Trouble] = {}

    def begins(self, name: str) -> None:
        """Note that something is under way, which should not take long."""
        self._under_way = name, time.monotonic()

    def ended(self) -> None:
        """Note that it is no longer under way."""
        self._under_way = None

    def note(
        self, name: str, sentence: str, error: BaseException, **details: object
    ) -> None:
        """Note a failure; log it unless it was logged in the last minute."""
        text = describe(error)
        with self._lock:
            now = time.monotonic()
            self._forget(now)
            known = self._known.get(name)
            is_told = known is None or now - known.told >= _AGAIN
            if known is None or is_told:
                self._known[name] = _Trouble(now, now + _RECENT, text)
            else:
                known.until, known.text = now + _RECENT, text
                known.is_over = False
        if is_told:
            logger.error(
                sentence,
                exc_info=error,
                extra={"what": name, "error": text, **details},
            )

    def hold(self, name: str, text: str, *, seconds: float) -> None:
        """Note a failure that others log; it is present for `seconds`."""
        with self._lock:
            now = time.monotonic()
            self._forget(now)
            self._known[name] = _Trouble(
                now, now + seconds, text[:_MOST_CHARACTERS], is_open=False
            )

    def worked(self, name: str) -> None:
        """Note that something has worked that may have failed before."""
        if name not in self._known:  # nearly always, so without the lock
            return
        with self._lock:
            known = self._known.get(name)
            is_told = known is not None and known.is_open
            if known is not None:
                known.is_open, known.is_over = False, True
        if is_told:
            logger.info("it works again", extra={"what": name})

    def recent(self) -> list[str]:
        """Return the first few recent failures, each as "name: error"."""
        now = time.monotonic()
        hanging = []
        if under_way := self._under_way:
            name, since = under_way
            hanging = [f"{name}: it hangs"] if now > since + _HANGS else []
        with self._lock:
            found = hanging + sorted(
                f"{name}: {known.text}"
                for name, known in self._known.items()
                if now <= known.until and not known.is_over
            )
        more = len(found) - _MOST_TROUBLES
        if more > 0:
            found[_MOST_TROUBLES:] = [f"and {more} more"]
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._known.clear()

    def _forget(self, now: float) -> None:
        """Drop what failed long ago; there may be one for each bad row."""
        for name, known in list(self._known.items()):
            if now > max(known.until, known.told + _AGAIN):
                del self._known[name]


POSTGRES = Outage(
    "Postgres can't be reached; trying again", "Postgres is back",
    repeats=True,
)
PUBLISHING = Outage(
    "timers not published; the dispatcher will", "timers are published again",
    repeats=True,
)
TROUBLES = Troubles()
RABBITMQ_AWAY = "RabbitMQ can't be reached"
