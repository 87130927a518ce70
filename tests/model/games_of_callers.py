"""Games about keys, repeated requests, changes and replays; see `games`."""

from tests.model.scheduler import Move

_STEP: Move = ("work", 0, 0)
_REFUSED: Move = ("stumble", 0, 0)
_CLAIMED: Move = ("deliver", 0, 1)
_GONE: Move = ("fail", 0, 3)
_ONCE: Move = ("create", 0, 0)
_FAR: Move = ("create", 5, 0)
_REPLAYED: Move = ("replay", 0, 0)
#: With a key: due now, and in 90 s; then the latter, statement by statement.
_NAMED: Move = ("post", 0, 0)
_NAMED_FAR: Move = ("post", 0, 2)
_NAMED_SLOWLY: Move = ("post", 3, 2)
#: A request that is repeated; another one that also has a key.
_REPEATED: Move = ("post", 1, 2)
_REPEATED_NAMED: Move = ("post", 2, 2)
#: To be due in 90 s; to be extended to 31 s from now at most.
_PUT: Move = ("put", 0, 1)
_KEPT: Move = ("put", 1, 1)
_PUT_BOUND: Move = ("put", 0, 2)
_PUT_SLOWLY: Move = ("put", 3, 1)
_EXTENDED: Move = ("put", 2, 2)
_CANCELLED: Move = ("cancel", 0, 0)
_PATCHED: Move = ("patch", 0, 0)

#: A timer had the key and has ended; two callers want it at the same time.
_RACE: list[Move] = [
    _NAMED, _GONE, _NAMED_SLOWLY, _NAMED_SLOWLY, ("go_on", 0, 0),
    ("go_on", 1, 0), ("go_on", 0, 0), ("go_on", 1, 0),
]
#: A PUT has changed its timer, and has not committed.
_PUT_OPEN: list[Move] = [_PUT_BOUND, _PUT_SLOWLY, ("go_on", 0, 2)]
#: A caller has locked the key, and stores a timer afterwards.
_REPLAY_RACE: list[Move] = [
    _NAMED, _GONE, _NAMED_SLOWLY, ("go_on", 0, 0), ("replay", 3, 0),
    ("go_on", 1, 1), ("go_on", 0, 3),
]
_WORKER_DIED: list[Move] = [_CLAIMED, ("crash", 0, 0), ("lapse", 4, 1)]
#: It is sent again, since its worker died after the call.
_CALLED_AND_LOST: list[Move] = [
    _NAMED, _CLAIMED, _STEP, _STEP, _STEP, _STEP, ("write_marks", 0, 1),
    ("crash", 0, 0), ("lapse", 4, 1),
]
_NOT_REACHED: list[Move] = [("deliver", 0, 2), _REFUSED, _STEP, _STEP]

#: There may be one timer, or two. It takes 3 s to a new count.
_LIMITED: Move = ("limit", 0, 0)
_LIMITED_TO_TWO: Move = ("limit", 0, 1)
_PAUSE: Move = ("advance", 1, 0)

GAMES_OF_CALLERS: dict[str, list[Move]] = {
    "a key is locked": _RACE,
    "who stores a timer locks its key": _RACE,
    "a key's timer is looked for": [_NAMED_FAR, _NAMED_FAR],
    "a key is free once its timer has ended": [_NAMED, _GONE, _NAMED],
    "a PUT takes a key from a timer that is being called": [
        _NAMED, _CLAIMED, _PUT,
    ],
    "what is refused is not stored": [_NAMED_FAR, _NAMED_FAR],
    "a key's row says who has it": [_NAMED, _GONE, _NAMED_FAR, _NAMED_FAR],
    "a key's row says how far its timer may be moved": [
        _PUT_BOUND, _EXTENDED,
    ],
    "of two in a group for one key, one comes first": [("post", 0, 5)],
    "what is refused is not remembered": [
        _NAMED, _REPEATED_NAMED, _GONE, _REPEATED_NAMED,
    ],
    "a repeated request stores nothing": [_REPEATED, _REPEATED],
    "a request is remembered": [_REPEATED, _REPEATED],
    "a request is forgotten after a day": [
        _REPEATED, ("pass_day", 0, 0), _REPEATED,
    ],
    # Nobody has called the timer that has the key.
    "a request is forgotten though a key is taken": [
        _REPEATED_NAMED, ("pass_day", 0, 0), _REPEATED_NAMED,
    ],
    "another body is another request": [_REPEATED, ("post", 1, 1)],
    "a repeated request gets the first answer": [_REPEATED, _REPEATED],
    "of two in a group that are the same, one comes first": [("post", 1, 5)],
    "who puts a timer has its key locked until all is done": [
        _NAMED, _GONE, _PUT_SLOWLY, _PUT_SLOWLY, ("go_on", 0, 1),
        ("go_on", 1, 1),
    ],
    "of two puts in a group, one comes first": [("put", 0, 5)],
    "of two puts in a group, the other sees what the one stored": [
        ("put", 0, 5),
    ],
    "a timer that is being called is not kept": [_NAMED, _CLAIMED, _KEPT],
    "a timer that has ended is not kept": [_NAMED_FAR, _CANCELLED, _KEPT],
    "a timer that was called is not kept": [*_CALLED_AND_LOST, _KEPT],
    "a move looks for claims": [_NAMED, _CLAIMED, _PUT],
    "a move looks for the end": [_NAMED_FAR, _CANCELLED, _PUT],
    "a move looks at the mark": [*_CALLED_AND_LOST, _PUT],
    "an extended timer is not moved beyond its bound": [
        _PUT_BOUND, _EXTENDED,
    ],
    "a change looks at the bound": [_PUT_BOUND, _EXTENDED],
    "a replaced timer's bound is replaced": [_PUT_BOUND, _PUT, _EXTENDED],
    "an extended timer's bound stays": [
        _PUT_BOUND, ("put", 2, 1), _EXTENDED,
    ],
    "a key names a timer that has not ended": [
        _NAMED, _GONE, ("cancel", 0, 5),
    ],
    # The caller has read the version before the other change.
    "a change looks at the version": [
        _FAR, ("move", 3, 5), _PATCHED, ("go_on", 0, 3),
    ],
    "what is merged is of the version that was read": [
        _FAR, ("patch", 3, 0), ("go_on", 0, 0), _PATCHED, ("go_on", 0, 3),
    ],
    "a change locks the timer": [
        *_PUT_OPEN, ("move", 3, 5), ("go_on", 1, 0), ("go_on", 0, 0),
    ],
    "a cancel looks at the version": [
        _FAR, ("cancel", 3, 4), _PATCHED, ("go_on", 0, 3),
    ],
    "a cancel looks for the end": [_FAR, _CANCELLED, _CANCELLED],
    "a cancel locks the timer": [
        *_PUT_OPEN, ("cancel", 3, 4), ("go_on", 1, 0), ("go_on", 0, 0),
    ],
    # Two replay it; it was delivered before the second one's statement.
    "a replay looks at the outcome": [
        _ONCE, _GONE, ("replay", 3, 0), _REPLAYED, ("deliver", 0, 5),
        ("go_on", 0, 3),
    ],
    "replays end": [_ONCE, *[_GONE, _REPLAYED] * 4],
    "a replay looks for who has the key": [
        _NAMED, _GONE, _NAMED_FAR, _REPLAYED,
    ],
    "a replay takes a key that is free": [_NAMED, _GONE, _REPLAYED],
    "of two with one key, one is replayed": [
        _NAMED, _GONE, _NAMED, _GONE, ("replay", 0, 3),
    ],
    "a timer takes room": [_LIMITED, _NAMED_FAR],
    "a replayed timer takes room": [
        _LIMITED, _NAMED, _GONE, _PAUSE, _REPLAYED,
    ],
    "without room, nothing is stored": [_LIMITED, _NAMED_FAR, _REPEATED],
    "without room, nothing is replayed": [
        _NAMED, _GONE, _LIMITED, _REPEATED, _REPLAYED,
    ],
    # It was asked for before; so there is room for another one.
    "what is not stored takes no room": [
        _LIMITED_TO_TWO, _REPEATED, _REPEATED, _NAMED_FAR,
    ],
    "who sets timers locks the limit": [
        _LIMITED, _NAMED_SLOWLY, ("post", 4, 2), ("go_on", 0, 1),
        ("go_on", 1, 3), ("go_on", 0, 3), ("go_on", 0, 3), ("go_on", 0, 3),
    ],
    "without room, timers are counted": [
        _LIMITED, _NAMED, _GONE, _PAUSE, _NAMED,
    ],
    "timers are counted again after a pause": [
        _LIMITED, _NAMED_FAR, _REPEATED,
    ],
    "timers that wait are counted": [_NAMED_FAR, _LIMITED, _REPEATED],
    "timers that are being called are counted": [
        _NAMED, _CLAIMED, _LIMITED, _REPEATED,
    ],
    "a replayed timer has its key": [
        _NAMED, _GONE, _NAMED_FAR, ("cancel", 0, 5), _REPLAYED, _NAMED_FAR,
    ],
    "a replay locks its timer": [
        _ONCE, _GONE, ("replay", 3, 0), ("replay", 3, 0), ("go_on", 0, 1),
        ("go_on", 1, 1),
    ],
    "a replay locks its key": _REPLAY_RACE,
    # The callers in the other order.
    "who replays a timer has its key locked until all is done": [
        _NAMED, _GONE, ("replay", 3, 0), _NAMED_SLOWLY, ("go_on", 0, 0),
        ("go_on", 1, 1), ("go_on", 0, 3),
    ],
    # The second worker, which was given up, goes on.
    "a replay takes the token away": [
        _ONCE, *_WORKER_DIED, _CLAIMED, ("lapse", 4, 1), _REPLAYED,
        ("work", 0, 4),
    ],
    "a replay forgets that it was sent": [
        _ONCE, ("fail", 0, 1), _REPLAYED, _CANCELLED,
    ],
    "a replay begins the retries anew": [
        ("create", 0, 4), *[("fail", 0, 1)] * 3, _REPLAYED, ("fail", 0, 1),
    ],
    "a replay has patience of its own": [
        _ONCE, *_NOT_REACHED, ("advance", 5, 0), *_NOT_REACHED, _REPLAYED,
        *_NOT_REACHED,
    ],
    "a moved timer has patience of its own": [
        _ONCE, *_NOT_REACHED, ("move", 0, 0), ("advance", 5, 0),
        *_NOT_REACHED,
    ],
    "a replay forgets the crashes": [
        _ONCE, *_WORKER_DIED, *_WORKER_DIED, _REPLAYED, *_WORKER_DIED,
    ],
    "a replay may be late from its own time": [
        ("create", 1, 0), ("advance", 2, 0), ("deliver", 0, 5), _REPLAYED,
        ("deliver", 0, 5),
    ],
}
