"""A worker's claims: how it gets them, renews them, marks them and ends them.

A worker's writes are idempotent. They are repeated while Postgres is away.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID, uuid4

from apps.broker.middleware import LeaveUnacknowledged
from apps.core.batching import BackgroundWriter, GroupCommit, WriteBehind
from apps.core.database import UNAVAILABLE
from apps.core.outages import POSTGRES
from apps.core.processes import PerProcess
from apps.monitoring.metrics.catalogue import CLAIMS_LOST
from apps.timers import counting, decisions
from apps.timers.decisions import Decision
from apps.timers.storage import claiming, recording
from apps.timers.storage.claim_records import (
    Claim,
    ClaimAnswer,
    ClaimRequest,
    Mark,
    Postponement,
    Report,
)
from apps.webhooks.client import Abort

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Written = TypeVar("Written", Report, Postponement)

#: Set when the process is to end. Then no thread waits for Postgres: it leaves
#: its message to a worker that is there when Postgres is back.
stopping = threading.Event()

#: How long one write may take before it is tried again, in seconds.
_WRITE_TIMEOUT = 5.0
#: How long a stopping process still tries to write what came of a call, in
#: seconds. A timer may be called again if that is not written. This time and
#: a call's, added, must be less than the time that a worker has to stop.
_LAST_WORD = 8.0
#: How long the mark of an answered request waits for the answer's record, in
#: seconds, before it is written after all.
_GRACE = 0.5
#: How long a stopping process tries to write marks, in seconds.
_LAST_MARKS = 2.0
# A lease goes on while a machine is suspended. On Linux CLOCK_MONOTONIC stands
# still then, and CLOCK_BOOTTIME does not. On macOS CLOCK_MONOTONIC does not.
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_claims: GroupCommit[ClaimRequest, ClaimAnswer] = GroupCommit(claiming.claim)
_renewals: GroupCommit[ClaimRequest, bool] = GroupCommit(claiming.renew)


class LeaseTooShort(Abort):
    """A call that went out now could outlive its claim's lease."""


def lease_clock() -> float:
    """Return seconds on a clock that runs on while the machine sleeps."""
    return time.clock_gettime(_LEASE_CLOCK)


def claim(timer_id: UUID) -> tuple[ClaimAnswer, float]:
    """Ask for a timer; return the answer and when it was asked for.

    The answer is None when this worker is not to call the timer. The time is
    read on the lease clock before the question: the lease counts from it.
    """
    request = ClaimRequest(timer_id, uuid4())

    def ask() -> tuple[ClaimAnswer, float]:
        asked_at = lease_clock()
        return _claims.submit(request, timeout=_WRITE_TIMEOUT), asked_at

    return until_done(ask)


def renew(claim: Claim) -> float:
    """Renew a claim; return when that was asked for.

    Raises LeaseTooShort.
    """
    asked_at = lease_clock()
    request = ClaimRequest(claim.id, claim.token)
    try:
        is_renewed = _renewals.submit(request, timeout=_WRITE_TIMEOUT)
    except (*UNAVAILABLE, TimeoutError) as error:
        raise LeaseTooShort("the claim could not be renewed") from error
    if not is_renewed:
        CLAIMS_LOST.add()
        raise LeaseTooShort("the claim was taken over")
    return asked_at


@PerProcess
def mark_writer() -> BackgroundWriter[UUID, Mark]:
    """Return this process's writer of marks, started on first use.

    A mark notes that a request has left, or its answer's status. If the worker
    dies before the answer is recorded, the mark keeps another worker from
    sending the request again. If the mark has the answer's status, that status
    decides what follows. A mark whose answer is recorded meanwhile is not
    written at all.
    """
    return BackgroundWriter(
        lambda marks: claiming.mark_sent(marks),
        key=lambda mark: mark.token,
        name="marks",
        grace=_GRACE,
        again=UNAVAILABLE,
    )


def close_mark_writer() -> None:
    """Write the marks that are left; a later mark starts another writer."""
    if (writer := mark_writer.forget()) is not None:
        writer.close(_LAST_MARKS)


def end(claim: Claim, decision: Decision) -> None:
    """End a claim: the timer has ended, or is open again for a later try."""
    if isinstance(decision, Report):
        _records.add((claim, decision))
    else:
        _postponements.add((claim, decision))


def until_done(
    write: Callable[[], Answer], *, patience: float = 0.0
) -> Answer:
    """Repeat an idempotent write until it works or the process stops.

    After a stop it goes on for `patience` seconds, then raises
    LeaveUnacknowledged. Any other exception would reject the message, and an
    outage of Postgres would move the whole queue to the dead letters.
    """
    give_up_at = None
    while True:
        try:
            answer = write()
        except (*UNAVAILABLE, TimeoutError) as error:
            POSTGRES.failed(error=str(error).strip())
            if stopping.wait(random.uniform(0.1, 0.5)):
                give_up_at = give_up_at or time.monotonic() + patience
                if time.monotonic() >= give_up_at:
                    raise LeaveUnacknowledged from error
                time.sleep(0.2)
        else:
            POSTGRES.worked()
            return answer


def _write(
    write: Callable[[Sequence[Written]], list[bool]],
    ended: Sequence[tuple[Claim, Written]],
) -> list[bool]:
    """Write what came of timers, even when the process is to stop."""
    items = [item for _, item in ended]
    try:
        written = until_done(lambda: write(items), patience=_LAST_WORD)
    except Exception as error:
        logger.error(
            "what came of calls is not kept; the claims' leases end",
            extra={
                "timers": [str(item.id) for item in items],
                "error": str(error.__cause__ or error).strip(),
            },
        )
        raise
    mark_writer().discard(*(item.token for item in items))
    return written


def _record(ended: Sequence[tuple[Claim, Report]]) -> None:
    """Record how timers ended, and log it."""
    written = _write(recording.record, ended)
    for (claim, report), is_written in zip(ended, written, strict=True):
        details = decisions.details(claim, report.attempt, report.error)
        if is_written:
            counting.decided(report)
        else:
            CLAIMS_LOST.add()
            details["recorded"] = "no: the claim was taken over"
        logger.info(f"timer {report.outcome.value}", extra=details)


def _postpone(tried: Sequence[tuple[Claim, Postponement]]) -> None:
    """Postpone timers, and log it."""
    written = _write(recording.postpone, tried)
    for (claim, later), is_written in zip(tried, written, strict=True):
        details = decisions.details(claim, later.attempt, later.error)
        if is_written:
            counting.decided(later)
            details["again_in_s"] = round(later.delay.total_seconds(), 1)
            logger.info("timer postponed", extra=details)
        else:
            CLAIMS_LOST.add()
            logger.info(
                "timer not postponed: the claim was taken over", extra=details
            )


_records: WriteBehind[tuple[Claim, Report]] = WriteBehind(_record)
_postponements: WriteBehind[tuple[Claim, Postponement]] = WriteBehind(
    _postpone
)
