"""Failures that repeat: each told now and then, not each time."""

import logging
import re
import threading
import time

logger = logging.getLogger(__name__)

#: How often a lasting failure is logged again, in seconds. After that time
#: without a failure, the next one begins a new outage.
_AGAIN = 60.0
#: Lines about the failures of one outage in that time, at most.
_MOST_LINES = 5
#: For how long a failure counts as present, in seconds.
_RECENT = 15.0
#: A step that takes longer than this hangs, in seconds.
_HANGS = 7.5
#: How many characters of an error's text are shown, and how many troubles.
_MOST_CHARACTERS = 200
_MOST_TROUBLES = 5


def describe(error: BaseException) -> str:
    """Return an error's type and the first line of its text, cut.

    Postgres tells a place in a statement that nobody sees here, and no place
    when the statement was prepared before. It is one error all the same.
    """
    lines = str(error).strip().splitlines()
    first = re.sub(r" at character \d+$", "", lines[0]) if lines else ""
    text = f"{type(error).__name__}: {first}"
    return text.rstrip(": ")[:_MOST_CHARACTERS]


class Outage:
    """Logs failures that may come many times a second, from many threads.

    A line tells when they begin, when their error changes, once a minute
    while they last, and when they end.
    """

    def __init__(
        self, begins: str, ends: str | None = None, **details: object
    ) -> None:
        """Take the two sentences to log, and details of each line.

        Without a sentence for its end, only that of its beginning is logged.
        """
        self._begins = begins
        self._ends = ends
        self._details = details
        self._lock = threading.Lock()
        self._number = 0
        self._since: float | None = None
        self._failed_at = time.monotonic()
        self._ended_at = float("-inf")
        self._failures = 0
        self._is_told = False
        #: The lines of the last minute: which outage and error each told, and
        #: when.
        self._lines: dict[tuple[int, str], float] = {}
        #: The latest error.
        self.text = ""

    def failed(
        self,
        error: BaseException | str = "",
        *,
        count: int = 1,
        **details: object,
    ) -> None:
        """Note failures. An exception is logged with its traceback."""
        if isinstance(error, BaseException):
            level, traceback, text = logging.ERROR, error, describe(error)
        else:
            level, traceback, text = logging.WARNING, None, error
        with self._lock:
            if not self._count(text, count):
                return
            if self._is_told:
                details["failures"] = self._failures
            self._is_told = True
        if text:
            details["error"] = text
        logger.log(
            level,
            self._begins,
            exc_info=traceback,
            extra=self._details | details,
        )

    def _count(self, text: str, count: int) -> bool:
        """Count failures; tell whether to log them."""
        now = time.monotonic()
        if self._since is None or now - self._failed_at >= _AGAIN:
            self._number += 1
            self._since = now
            self._failures = 0
            self._is_told = False
        self._failed_at, self.text = now, text
        self._failures += count
        self._lines = {
            line: at for line, at in self._lines.items() if now - at < _AGAIN
        }
        # Another port or memory address does not make another error.
        line = self._number, re.sub(r"0x[0-9a-f]+|\d+", "#", text)
        if line in self._lines or len(self._lines) >= _MOST_LINES:
            return False
        self._lines[line] = now
        return True

    def worked(self) -> None:
        """Note a success."""
        if not self.lasts():  # nearly always, so without the lock
            return
        with self._lock:
            since, self._since = self._since, None
            self._ended_at = now = time.monotonic()
        if since is not None and self._is_told and self._ends is not None:
            logger.info(
                self._ends,
                extra=self._details | {
                    "after_s": round(now - since, 1),
                    "failures": self._failures,
                },
            )

    def stalled(self) -> None:
        """Note that an outage has just ended in which nothing failed."""
        self._ended_at = time.monotonic()

    def lasts(self) -> bool:
        """Tell whether it has failed, and has not worked since."""
        return self._since is not None

    def ended_within(self, seconds: float) -> bool:
        """Tell whether it lasts, or ended in the last `seconds` seconds."""
        with self._lock:
            if self._since is not None:
                return True
            return time.monotonic() - self._ended_at <= seconds

    def is_recent(self) -> bool:
        """Tell whether it lasts, and failed in the last seconds."""
        return self.lasts() and time.monotonic() - self._failed_at <= _RECENT

    def is_old(self) -> bool:
        """Tell whether its last failure makes no difference any more."""
        return time.monotonic() - self._failed_at >= _AGAIN


class Troubles:
    """The outages of one process, each by the name of what fails.

    Probes ask for all that are recent, and for what hangs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: tuple[str, float] | None = None
        self._outages: dict[str, Outage] = {}
        #: What others log: until when it is present, and its text.
        self._held: dict[str, tuple[float, str]] = {}

    def begins(self, name: str) -> None:
        """Note that something is under way, which should not take long."""
        self._under_way = name, time.monotonic()

    def ended(self) -> None:
        """Note that it is no longer under way."""
        self._under_way = None

    def note(self, name: str, sentence: str, error: BaseException) -> None:
        """Note a failure; the outage of this name logs it."""
        with self._lock:
            self._forget()
            outage = self._outages.setdefault(
                name, Outage(sentence, "it works again", what=name)
            )
        outage.failed(error)

    def hold(self, name: str, text: str, *, seconds: float) -> None:
        """Note a failure that others log; it is present for `seconds`."""
        until = time.monotonic() + seconds
        with self._lock:
            self._forget()
            self._held[name] = until, text[:_MOST_CHARACTERS]

    def worked(self, name: str) -> None:
        """Note that something has worked that may have failed before."""
        if (outage := self._outages.get(name)) is not None:
            outage.worked()

    def recent(self) -> list[str]:
        """Return the first few recent failures, each as "name: error"."""
        now = time.monotonic()
        hanging = []
        if under_way := self._under_way:
            name, since = under_way
            hanging = [f"{name}: it hangs"] if now > since + _HANGS else []
        with self._lock:
            texts = {
                name: outage.text
                for name, outage in self._outages.items()
                if outage.is_recent()
            }
            for name, (until, text) in self._held.items():
                if now <= until:
                    texts[name] = text
        found = hanging + sorted(f"{name}: {texts[name]}" for name in texts)
        more = len(found) - _MOST_TROUBLES
        if more > 0:
            found[_MOST_TROUBLES:] = [f"and {more} more"]
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._outages.clear()
            self._held.clear()

    def _forget(self) -> None:
        """Drop what failed long ago; there may be one for each bad row."""
        now = time.monotonic()
        for name, outage in list(self._outages.items()):
            if outage.is_old():
                del self._outages[name]
        for name, (until, _) in list(self._held.items()):
            if until < now:
                del self._held[name]


POSTGRES = Outage(
    "Postgres can't be reached; trying again", "Postgres is back"
)
PUBLISHING = Outage(
    "timers not published; the dispatcher will", "timers are published again"
)
TROUBLES = Troubles()
RABBITMQ_AWAY = "RabbitMQ can't be reached"
