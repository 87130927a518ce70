"""Games that take many moves to come about by chance.

By the guard that keeps each from breaking a promise; the number is how
often a timer is opened again. See `scheduler` for what the moves do.
"""

from tests.model.games_of_callers import GAMES_OF_CALLERS
from tests.model.scheduler import Move

_ONCE: Move = ("create", 0, 0)
_STEP: Move = ("work", 0, 0)
_REFUSED: Move = ("stumble", 0, 0)
#: A timer with retries, and one that may be 5 s late.
_RETRIED: Move = ("create", 0, 4)
_TIMELY: Move = ("create", 1, 0)
_ANSWERED_500: Move = ("fail", 0, 1)

#: A worker dies right after its claim.
_LOST: list[Move] = [_ONCE, ("deliver", 0, 1), ("crash", 0, 0)]
#: The second try would be too late.
_RETRIED_TOO_LATE: list[Move] = [
    ("create", 1, 4), _ANSWERED_500, ("advance", 2, 0), ("deliver", 0, 5),
]
#: Connecting takes 9 s.
_SLOW_TO_CONNECT: list[Move] = [
    _TIMELY, ("deliver", 0, 2), ("advance", 2, 0), ("work", 0, 4),
]
#: A worker of an `at_least_once` timer dies after its mark.
_MARKED_AND_LOST: list[Move] = [
    ("create", 0, 1), ("deliver", 0, 1), _STEP, _STEP, _STEP, _STEP,
    ("write_marks", 0, 1), ("crash", 0, 0), ("lapse", 4, 1),
]

#: A worker has an answer, and has marked its status.
_ANSWERED: list[Move] = [
    _ONCE, ("deliver", 0, 4), _STEP, ("write_marks", 0, 1),
]

GAMES: dict[str, tuple[int, list[Move]]] = {
    "a claim looks for a hold": (
        1, [_ONCE, ("hold", 0, 0), ("deliver", 0, 1)],
    ),
    "a claim repeated with its token succeeds": (
        1, [_ONCE, ("deliver", 0, 1), ("stumble", 0, 0), ("work", 0, 5)],
    ),
    # Its first message to Postgres arrives when its worker has an answer.
    "a claim repeated with its token keeps its time": (
        1,
        [
            _RETRIED, ("deliver", 0, 0), ("stumble", 0, 0), ("work", 0, 4),
            ("work", 3, 0), ("advance", 2, 0), ("arrive_late", 0, 0),
            ("lapse", 4, 1),
        ],
    ),
    "a cancel looks at the mark": (
        1, [*_MARKED_AND_LOST, ("cancel", 0, 0)],
    ),
    "taking over looks at who wants it sent again": (1, _MARKED_AND_LOST),
    # The mark is late by more than the lease, and the timer given up.
    "a mark looks at the outcome": (
        1,
        [
            _ONCE, ("deliver", 0, 1), ("lapse", 4, 1), ("deliver", 0, 4),
            ("lapse", 4, 1), ("write_marks", 0, 1),
        ],
    ),
    # After 21 s the claim is as old as a lease, the renewal is not.
    "a renewal renews": (
        1,
        [
            _ONCE, ("deliver", 0, 1), _STEP, ("advance", 1, 0), _STEP, _STEP,
            ("crash", 0, 0), ("advance", 2, 0), ("advance", 2, 0),
            ("dispatch", 0, 0),
        ],
    ),
    # The second worker of a timer that allows no third is slow to report.
    "a postponement looks at the outcome": (
        1,
        [
            _ONCE, ("deliver", 0, 1), ("crash", 0, 0), ("lapse", 4, 1),
            ("deliver", 0, 2), _REFUSED, ("lapse", 4, 1), _STEP, _STEP,
        ],
    ),
    "a postponement ends the claim": (
        1, [_ONCE, ("deliver", 0, 2), _REFUSED],
    ),
    # Its first message to Postgres arrives when all is over.
    "a postponement takes the token away": (
        1,
        [
            _ONCE, ("deliver", 0, 0), ("stumble", 0, 0), _STEP, _STEP, _STEP,
            _REFUSED, _STEP, _STEP, ("arrive_late", 0, 0),
        ],
    ),
    "a postponement takes the lease away": (
        1, [_ONCE, ("deliver", 0, 2), _REFUSED, _STEP, _STEP, ("lapse", 4, 1)],
    ),
    "a postponement is no crash": (
        1,
        [
            _ONCE,
            ("deliver", 0, 2), _REFUSED, _STEP, _STEP, ("advance", 1, 0),
            ("deliver", 0, 1), ("crash", 0, 0), ("lapse", 4, 1),
        ],
    ),
    "what was lost is looked for": (1, [("create", 0, 2)]),
    "a worker waits until it is due": (
        1, [("create", 3, 0), ("advance", 0, 0), ("deliver", 0, 5)],
    ),
    # The machine is suspended while it waits for the renewal's answer; the
    # call's deadline is on the monotonic clock, which did not notice.
    "a worker looks at its lease after a renewal": (
        1,
        [
            _ONCE, ("deliver", 0, 1), _STEP, ("advance", 0, 0), _STEP, _STEP,
            ("suspend", 4, 0), _STEP, _STEP,
        ],
    ),
    "tries end": (
        1,
        [
            _ONCE,
            ("deliver", 0, 2), _REFUSED, _STEP, _STEP, ("advance", 5, 0),
            ("deliver", 0, 2), _REFUSED, _STEP, _STEP,
        ],
    ),
    "taking over looks at the mark": (
        1,
        [
            _ONCE, ("deliver", 0, 4), ("write_marks", 0, 1), ("crash", 0, 0),
            ("lapse", 4, 1), ("deliver", 0, 5),
        ],
    ),
    "taking over leaves what was answered": (
        1, [*_ANSWERED, ("crash", 0, 0), ("lapse", 4, 1)],
    ),
    "an answered claim's lease is looked at": (
        1, [*_ANSWERED, ("lapse", 4, 0)],
    ),
    # The second try's worker dies before the call.
    "a postponement forgets the answer": (
        1,
        [
            _RETRIED, ("deliver", 0, 4), ("stumble", 0, 1),
            ("write_marks", 0, 1), _STEP, _STEP, ("advance", 1, 0),
            ("deliver", 0, 1), ("crash", 0, 0), ("lapse", 4, 1),
        ],
    ),
    # The lease has ended while Postgres was away.
    "taking over waits after Postgres's start": (
        1, [*_LOST, ("restart_postgres", 4, 0), ("lapse", 0, 0)],
    ),
    "taking over waits after an outage": (
        1, [*_LOST, ("cut_off", 4, 0), ("lapse", 0, 0)],
    ),
    "taking over does nothing when held up": (1, [*_LOST, ("stall", 4, 0)]),
    # The second worker comes too late, and was given up.
    "a renewal looks at the outcome": (
        1,
        [
            *_LOST, ("lapse", 4, 1), ("deliver", 0, 2), ("lapse", 4, 1),
            ("work", 0, 4),
        ],
    ),
    "a claim repeated with its token is no other try": (
        1, [_ONCE, ("deliver", 0, 1), ("stumble", 0, 0), ("work", 0, 5)],
    ),
    # The second try's worker dies before the call.
    "an answered attempt's mark does not count": (
        1,
        [
            _RETRIED, _ANSWERED_500, ("advance", 1, 0), ("deliver", 0, 1),
            ("crash", 0, 0), ("lapse", 4, 1),
        ],
    ),
    "what was missed has no number": (
        1, [_TIMELY, ("advance", 2, 0), ("deliver", 0, 5)],
    ),
    # The answer to the record is lost.
    "a record is repeated without effect": (
        1,
        [
            _TIMELY, ("advance", 2, 0), ("deliver", 0, 3), ("stumble", 0, 0),
            _STEP, _STEP,
        ],
    ),
    "a late record corrects its attempt": (
        1,
        [
            _ONCE, ("deliver", 0, 4), ("write_marks", 0, 1), ("lapse", 4, 1),
            ("work", 0, 5),
        ],
    ),
    "a postponement counts failures to connect": (
        1,
        [
            _ONCE,
            ("deliver", 0, 2), _REFUSED, _STEP, _STEP, ("advance", 1, 0),
            ("deliver", 0, 2), _REFUSED,
        ],
    ),
    "a postponement counts retries": (1, [_RETRIED, *[_ANSWERED_500] * 3]),
    "retries end": (1, [_RETRIED, *[_ANSWERED_500] * 3]),
    "a postponement keeps that it was sent": (1, _RETRIED_TOO_LATE),
    "what was called was not missed": (1, _RETRIED_TOO_LATE),
    "a cancel looks at retries": (
        1, [_RETRIED, _ANSWERED_500, ("cancel", 0, 0)],
    ),
    "who is gone is not called again": (1, [_RETRIED, ("fail", 0, 3)]),
    "a receiver says when to come again": (1, [_RETRIED, ("fail", 0, 2)]),
    # The receiver asks for more time than there is.
    "a retry is in time": (1, [("create", 1, 4), ("fail", 0, 2)]),
    "another try is in time": (1, [_TIMELY, ("defer", 0, 1), ("work", 0, 3)]),
    "no time is left for another try": (
        1, [_TIMELY, ("deliver", 0, 2), ("advance", 2, 0), _REFUSED],
    ),
    "a worker looks at once whether it is too late": (
        1, [_TIMELY, ("advance", 2, 0), ("deliver", 0, 2)],
    ),
    "a worker looks at last whether it is too late": (1, _SLOW_TO_CONNECT),
    "a worker says at once that it was too late": (1, _SLOW_TO_CONNECT),
    **{guard: (1, game) for guard, game in GAMES_OF_CALLERS.items()},
}
